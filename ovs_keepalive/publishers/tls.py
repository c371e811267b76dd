# SPDX-License-Identifier: Apache-2.0
"""`ssl:` remotes: python-ovs's stream with what a daemon that runs for years needs besides.

python-ovs's own raises out of the main loop when a file cannot be read, checks no name, wakes without pause during a
handshake that does not go on, and calls every failure "Operation not permitted".
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any, ClassVar, NamedTuple

import ovs.socket_util
import ovs.stream

from ovs_keepalive.formats import remote


class Files(NamedTuple):
    """Whose key is shown, and whose is believed: paths of PEM files, read anew for each connection."""

    private_key: str
    certificate: str
    ca_cert: str
    hostname: str = ""  # DNS name or address that the server's certificate has to bear; "" for any


class TlsStream(ovs.stream.SSLStream):  # type: ignore[misc]  # python-ovs carries no types
    """One connection. What it lacks is told by `problem`, of the newest connection of this process."""

    files: ClassVar[Files | None] = None
    problem: ClassVar[str] = ""

    def __init__(self, connection: Any, name: str, status: int, is_server: bool = False) -> None:
        super().__init__(connection, name, status, is_server)
        self._shaken = False
        self._wants = ovs.stream.Stream.W_RECV  # what the handshake waits for

    @staticmethod
    def _open(suffix: str, dscp: int) -> tuple[int, Any]:
        files = TlsStream.files
        try:
            if files is None:
                raise FileNotFoundError(errno.ENOENT, "no private key, certificate and CA certificate are set")
            context = _context(files)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            TlsStream.problem = _words(error)
            return errno.EPROTO, None
        address = ovs.socket_util.inet_parse_active(suffix, 0)
        family, plain = ovs.socket_util.inet_create_socket_active(socket.SOCK_STREAM, address)
        if plain is None:
            return family, None
        secured = context.wrap_socket(plain, server_hostname=files.hostname or None, do_handshake_on_connect=False)
        return ovs.socket_util.inet_connect_active(secured, address, family, dscp), secured

    def connect(self) -> int:
        """0 when the handshake is over, EAGAIN while it goes on, else an errno."""
        error: int = ovs.stream.Stream.connect(self)
        if error or self._shaken:
            return error
        try:
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._wants = ovs.stream.Stream.W_RECV
            return errno.EAGAIN
        except ssl.SSLWantWriteError:
            self._wants = ovs.stream.Stream.W_SEND
            return errno.EAGAIN
        except (OSError, ValueError) as failed:  # ValueError: the peer left before its certificate was there
            TlsStream.problem = _words(failed)
            return errno.EPROTO
        self._shaken, TlsStream.problem = True, ""
        return 0

    def wait(self, poller: Any, wait: int) -> None:
        """Let the poller wake when it can go on: during the handshake with that."""
        connected = ovs.stream.Stream.connect(self) == 0
        super().wait(poller, wait if self._shaken or not connected else self._wants)


def use(files: Files) -> None:
    """Let every `ssl:` remote of this process use these files, from the next connection on."""
    TlsStream.files = files


ovs.stream.Stream.register_method("ssl", TlsStream)


def _context(files: Files) -> ssl.SSLContext:
    """Raises OSError, which names the file, or ValueError."""
    try:
        remote.check_hostname(files.hostname)
    except remote.BadRemote as error:
        raise ValueError(f"ssl-hostname {error}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(files.hostname)
    try:
        context.load_verify_locations(files.ca_cert)
    except OSError as error:
        raise _of(files.ca_cert, error) from error
    try:
        context.load_cert_chain(
            files.certificate, files.private_key, password=""
        )  # an encrypted key: an error, no prompt
    except OSError as error:
        raise _of(f"{files.certificate} with {files.private_key}", error) from error
    return context


def _of(what: str, error: OSError) -> OSError:
    return OSError(error.errno, f"{what}: {_words(error)}")


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
    return getattr(error, "strerror", None) or str(error)
