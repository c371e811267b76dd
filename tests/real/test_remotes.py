# SPDX-License-Identifier: Apache-2.0
"""The database over TCP and over TLS: the daemon's whole job, and what it says when the other side is not trusted."""

from __future__ import annotations

import errno
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ovs.poller
import ovs.stream
import ovs.timeval
import pytest

from ovs_keepalive import cli
from ovs_keepalive.command_line import USAGE
from ovs_keepalive.publishers import schema
from ovs_keepalive.publishers.tls import Files, TlsStream, use
from ovs_keepalive.sandbox import Sandbox, wait

pytestmark = pytest.mark.real


class Authority(NamedTuple):
    """A CA of the test's own, which signs certificates for 127.0.0.1 and the name ovsdb.test."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    def files(self, name: str) -> Files:
        """Key and certificate of one party, made now."""
        key, request, signed = (self.directory / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        names = self.directory / "names"
        names.write_text("subjectAltName=DNS:ovsdb.test,IP:127.0.0.1\n")
        signer: list[str | Path] = ["-CA", self.certificate, "-CAkey", self.directory / "ca.key", "-CAcreateserial"]
        openssl("x509", "-req", "-in", request, *signer, "-days", "2", "-extfile", names, "-out", signed)
        return Files(str(key), str(signed), str(self.certificate))


def openssl(*argv: str | Path) -> None:
    subprocess.run(["openssl", *argv], check=True, capture_output=True, timeout=30)


def make_authority(directory: Path) -> Authority:
    directory.mkdir()
    key, certificate = directory / "ca.key", directory / "ca.pem"
    subject = ["-subj", "/CN=an authority of the tests", "-days", "2"]
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", key, "-out", certificate)
    return Authority(directory)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """A CA; what this process trusts is as before when the test ends."""
    monkeypatch.setattr(TlsStream, "files", None)
    monkeypatch.setattr(TlsStream, "problem", "")
    return make_authority(tmp_path / "authority")


def serve_tls(sandbox: Sandbox, files: Files) -> str:
    """Let the sandbox's ovsdb-server listen with these files as well; the remote."""
    sandbox.kill_ovsdb()
    keys = (f"--private-key={files.private_key}", f"--certificate={files.certificate}", f"--ca-cert={files.ca_cert}")
    sandbox.start_ovsdb("--remote=pssl:0:127.0.0.1", *keys)
    log = (sandbox.dir / "ovsdb-server.log").read_text()
    [*_, port] = re.findall(r"listening on port (\d+)", log)
    return f"ssl:127.0.0.1:{port}"


def settings_of(files: Files) -> dict[str, object]:
    """The keys of the configuration file that name them."""
    return {f"ssl-{name.replace('_', '-')}": value for name, value in files._asdict().items()}


def test_over_tcp_the_columns_are_added_and_written(sandbox: Sandbox) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    sandbox.appctl("ovsdb-server/add-remote", f"ptcp:{port}:127.0.0.1", target="ovsdb-server")
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon("--ovsdb", f"tcp:127.0.0.1:{port}")
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "the PMDs in the column", 15)


def test_over_tls_the_columns_are_added_written_and_emptied(sandbox: Sandbox, authority: Authority) -> None:
    remote = serve_tls(sandbox, authority.files("server"))
    mine = authority.files("daemon")._replace(hostname="ovsdb.test")
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon("--ovsdb", remote, config=settings_of(mine))
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "the PMDs in the column", 15)
    assert f"{remote}, connected" in sandbox.appctl("keepalive/status", target="ovs-keepalive")
    assert sandbox.stop_daemon() == 0
    assert sandbox.column() == {}


@pytest.mark.slow
def test_a_server_of_another_authority_is_told_and_the_right_one_found_without_a_restart(
    sandbox: Sandbox, authority: Authority, tmp_path: Path
) -> None:
    other = make_authority(tmp_path / "other")
    remote = serve_tls(sandbox, authority.files("server"))
    mine = authority.files("daemon")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(other.certificate.read_bytes())
    sandbox.settings(enable_keepalive=True)
    sandbox.start_daemon("--ovsdb", remote, config=settings_of(mine._replace(ca_cert=str(trusted))))

    def status() -> str:
        return sandbox.appctl("keepalive/status", target="ovs-keepalive")

    wait(lambda: "the server's certificate is refused: " in status(), "the reason", 10)
    assert "not connected, trying again" in status()
    trusted.write_bytes(authority.certificate.read_bytes())  # files are read anew for each connection
    wait(lambda: set(sandbox.column()) == set(sandbox.pmds()), "the PMDs in the column", 20)
    assert "certificate" not in status()
    assert (sandbox.dir / "ovs-keepalive.log").read_text().count("certificate is refused") == 1


def test_a_name_that_the_certificate_does_not_bear_is_refused(sandbox: Sandbox, authority: Authority) -> None:
    remote = serve_tls(sandbox, authority.files("server"))
    mine = authority.files("client")
    for hostname in ("", "ovsdb.test", "127.0.0.1"):
        use(mine._replace(hostname=hostname))
        assert not schema.status(remote).complete
    use(mine._replace(hostname="elsewhere.test"))
    with pytest.raises(schema.Failed, match="certificate is refused: Hostname mismatch"):
        schema.status(remote)


@pytest.mark.parametrize("hostname", [".example.org", "a..b", f"{'x' * 64}.org"])
def test_a_name_that_no_host_can_have_is_told(authority: Authority, hostname: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        use(authority.files("client")._replace(hostname=hostname))
        with pytest.raises(schema.Failed, match=f"ssl-hostname '{re.escape(hostname)}': "):
            schema.status(f"ssl:127.0.0.1:{listening.getsockname()[1]}")


@pytest.mark.parametrize("lacking", ["private_key", "certificate", "ca_cert"])
def test_a_file_that_cannot_be_read_is_named(authority: Authority, lacking: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        use(authority.files("client")._replace(**{lacking: "/nowhere/it.pem"}))
        with pytest.raises(schema.Failed, match=r"/nowhere/it\.pem.*No such file or directory"):
            schema.status(f"ssl:127.0.0.1:{listening.getsockname()[1]}")


def test_remotes_that_need_files_are_refused_without_them(
    authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = tmp_path / "config.yaml"
    configuration.write_text(f"ssl-ca-cert: {authority.certificate}\n")
    arguments = ["schema", "status", "--config", str(configuration), "--ovsdb", "ssl:127.0.0.1:6640"]
    assert cli.main(arguments) == USAGE
    [line] = capsys.readouterr().err.splitlines()
    assert "set ssl-private-key, ssl-certificate and ssl-ca-cert" in line


@contextmanager
def silent_server() -> Iterator[str]:
    """It takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"ssl:127.0.0.1:{listening.getsockname()[1]}"


def test_a_handshake_that_does_not_go_on_wakes_nobody(authority: Authority) -> None:
    use(authority.files("client"))
    with silent_server() as remote:
        error, stream = ovs.stream.Stream.open(remote)
        assert error == 0
        wakes = count_wakes(stream.connect, stream.connect_wait)
        stream.close()
    assert wakes <= 3


def count_wakes(step: Callable[[], int], arm: Callable[[ovs.poller.Poller], None]) -> int:
    """How often the poller wakes within half a second."""
    for wakes in range(1000):
        assert step() in (errno.EAGAIN, errno.EINPROGRESS)
        poller = ovs.poller.Poller()
        arm(poller)
        poller.timer_wait(500)
        before = ovs.timeval.msec()
        poller.block()
        if ovs.timeval.msec() - before >= 490:
            return wakes
    return 1000


def test_a_peer_that_speaks_no_tls_is_told_as_such(authority: Authority) -> None:
    use(authority.files("client"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        remote = f"ssl:127.0.0.1:{listening.getsockname()[1]}"
        error, stream = ovs.stream.Stream.open(remote)
        assert error == 0
        peer, _ = listening.accept()
        peer.sendall(b"no tls at all, this is\n")
        wait(lambda: stream.connect() == errno.EPROTO, "the refusal", 5)
        stream.close()
        peer.close()
    assert TlsStream.problem.startswith("TLS: ")
