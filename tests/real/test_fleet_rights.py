# SPDX-License-Identifier: Apache-2.0
"""Who may do what in the fleet's store, on a real ZooKeeper: by certificates, and by one name and password."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from ovs_keepalive.fleet.claims import Claims
from ovs_keepalive.fleet.members import Membership, forget
from ovs_keepalive.fleet.session import Options
from ovs_keepalive.fleet.store import Create, Delete, Link, Part, Put, Refused, Why
from ovs_keepalive.fleet.tree import Guard, Tree
from ovs_keepalive.fleet.wire import Handler, Tls
from tests.fleets import HOST, T, help_of, member
from tests.real.test_remotes import Authority, make_authority
from tests.zookeeper import Client, Zookeeper

pytestmark = pytest.mark.real

TREE = Tree("c1", Guard.CERTIFICATE, "x509:CN=fleet-admin")
PROVIDER = "org.apache.zookeeper.server.auth.X509AuthenticationProvider"


class Secured(NamedTuple):
    """Servers that only certificates of one authority get to."""

    zookeeper: Zookeeper
    authority: Authority
    connect: Callable[[str], Client]  # by the name of a certificate

    def options(self, tls: Tls, host: str = "127.0.0.1") -> Options:
        return Options(f"{host}:{self.zookeeper.secure_ports[0]}", timeout=4.0, tls=tls)


def tls_of(authority: Authority, name: str) -> Tls:
    """A certificate of that name, made now."""
    files = authority.files(name)
    return Tls(files.certificate, files.private_key, files.ca_cert)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("tls")
    authority = make_authority(directory / "authority")
    server = authority.files("zookeeper")
    store = directory / "server.pem"
    store.write_text(Path(server.private_key).read_text() + Path(server.certificate).read_text())
    lines = (
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        *(f"ssl.keyStore.location={store}", "ssl.keyStore.type=PEM"),
        *(f"ssl.trustStore.location={authority.certificate}", "ssl.trustStore.type=PEM"),
        *("ssl.clientAuth=need", f"authProvider.x509={PROVIDER}", "secureClientPortAddress=127.0.0.1"),
    )
    with ExitStack() as stack:
        zookeeper = stack.enter_context(Zookeeper(directory, secure=lines))

        def connect(name: str) -> Client:
            return stack.enter_context(Client(made.options(tls_of(authority, name))))

        made = Secured(zookeeper, authority, connect)
        TREE.plant(connect("node-07").session)
        yield made


def refusal(client: Client, *parts: Part) -> Why:
    """Why a change was refused."""
    with pytest.raises(Refused) as refused:
        client.session.write(*parts)
    return refused.value.why


def test_no_host_changes_or_deletes_what_another_one_says(secured: Secured) -> None:
    one, two = secured.connect(HOST), secured.connect("node-08")
    Membership(one.session, TREE, HOST).tell(member())
    for path in (TREE.live(HOST), TREE.known(HOST)):
        assert refusal(two, Put(path, b"{}")) is Why.FORBIDDEN
        assert refusal(two, Delete(path)) is Why.FORBIDDEN
    intruder = Create(TREE.host(HOST) + "/x", b"", TREE.rights())
    assert refusal(two, intruder) is Why.FORBIDDEN
    assert two.session.read([TREE.live(HOST)]) == one.session.read([TREE.live(HOST)])


def test_a_host_claims_and_completes_the_request_of_another(secured: Secured) -> None:
    one, two = Claims(secured.connect(HOST).session, TREE, HOST), Claims(secured.connect("a").session, TREE, "a")
    one.post(help_of(n=0))
    [(request, version)] = two.requests().values()
    held = two.claim(request, version, "tok-a", T)
    assert held is not None
    assert refusal(secured.connect("b"), Delete(TREE.hold("a", "tok-a"))) is Why.FORBIDDEN
    assert two.complete(held, "offered", T)
    assert len(one.records()) == 1


def test_only_the_administrator_lets_a_host_be_forgotten(secured: Secured) -> None:
    gone = secured.connect("node-09")
    place = Membership(gone.session, TREE, "node-09")
    place.tell(member("node-09"))
    place.leave()
    with pytest.raises(Refused, match="this client has no right to"):
        forget(secured.connect("node-08").session, TREE, "node-09")
    forget(secured.connect("fleet-admin").session, TREE, "node-09")
    assert gone.session.read([TREE.known("node-09")]) == [Why.ABSENT]


def test_answers_that_came_in_one_record_are_read_without_waiting(tmp_path: Path) -> None:
    """What TLS has unpacked already does not show on the socket: it would be read with the next ping."""
    authority = make_authority(tmp_path / "authority")
    files, mine = authority.files("zookeeper"), tls_of(authority, HOST)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(files.certificate, files.private_key)
    handler = Handler(mine, print)

    def serve() -> None:
        with serving.wrap_socket(listening.accept()[0], server_side=True) as one:
            one.sendall(b"answer" * 100)
            one.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve)
        server.start()
        with handler.create_connection(listening.getsockname(), "127.0.0.1", 10.0) as client:
            for _ in range(100):
                assert handler.select([client], [], [], 5.0) == ([client], [], [])
                assert client.recv(6) == b"answer"
            assert handler.select([client], [], [], 0.0) == ([], [], [])
            client.sendall(b"x")
        server.join(10)


def problem(options: Options) -> str:
    """What is said of a connection that is not made."""
    client = Client(options)
    client.session.start()
    try:
        client.until(lambda: client.session.problem != "", "a reason", 10)
        assert client.session.link is Link.LOST
        return client.session.problem
    finally:
        client.session.stop(3.0)


def test_a_certificate_of_another_authority_is_not_let_in(secured: Secured, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path / "stranger").files("node-07")
    tls = Tls(stranger.certificate, stranger.private_key, str(secured.authority.certificate))
    assert problem(secured.options(tls))


def test_a_server_of_another_authority_or_name_is_not_believed(secured: Secured, tmp_path: Path) -> None:
    mine = tls_of(secured.authority, HOST)
    stranger = make_authority(tmp_path / "stranger")
    assert "certificate" in problem(secured.options(mine._replace(ca=str(stranger.certificate))))
    assert "ostname mismatch" in problem(secured.options(mine, "localhost"))


def test_who_does_not_know_the_password_reads_and_deletes_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("fleet:hunter2\n")
    secret.chmod(0o600)
    tree = Tree("c2", Guard.DIGEST, "digest:admin:xxx=")
    with Zookeeper(tmp_path) as zookeeper, ExitStack() as stack:
        known = [Options(zookeeper.hosts, 4.0, digest=str(secret)) for _ in range(2)]
        one, two = (stack.enter_context(Client(options)) for options in known)
        stranger = stack.enter_context(Client(Options(zookeeper.hosts, 4.0)))
        tree.plant(one.session)
        Membership(one.session, tree, HOST).tell(member())
        assert two.session.read([tree.live(HOST)]) == one.session.read([tree.live(HOST)])
        assert refusal(two, Delete(tree.known(HOST))) is Why.FORBIDDEN
        assert stranger.session.read([tree.live(HOST)]) == [Why.FORBIDDEN]
        assert stranger.session.children([tree.directory("hosts")]) == [Why.FORBIDDEN]
        assert refusal(stranger, Delete(tree.live(HOST))) is Why.FORBIDDEN
        assert refusal(stranger, Create(tree.help("a--b"), b"", ())) in (Why.FORBIDDEN, Why.OTHER)
