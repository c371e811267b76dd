# SPDX-License-Identifier: Apache-2.0
"""The documents of the fleet's store: compact JSON, versioned, read strictly.

What comes out of the store was written by another host, or by whoever got in there: it is of the right size, types and
ranges, printable, and names the host under whose name it stands, or it is refused in one line (ValueError). What a
later version adds is passed over; another meaning has another `v`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from ovs_keepalive.core.excerpt import short
from ovs_keepalive.core.fleet import (
    OWN_WORDS,
    VERSION,
    Claim,
    Done,
    Headroom,
    Help,
    HostState,
    Known,
    Member,
    PmdBrief,
    request_id,
)
from ovs_keepalive.core.fleet import Tunnel as TunnelNoun
from ovs_keepalive.formats.plain import LAST_MS, json_bytes, one_line, sound

LARGEST = 64 << 10  # bytes of a document: a server drops the connection that brings it more than 1 MB
NAME = 253  # characters of a host's name: the longest of DNS
TEXT = 400  # characters of a sentence
WORD = 64  # characters of a word
_KIND = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

T = TypeVar("T")

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Small = Annotated[int, Meta(ge=0, le=65535)]
_Percent = Annotated[int, Meta(ge=0, le=100)]
_Ms = Annotated[int, Meta(ge=0, le=LAST_MS)]
_Name = Annotated[str, Meta(min_length=1, max_length=NAME)]
_Word = Annotated[str, Meta(max_length=WORD)]
_Text = Annotated[str, Meta(max_length=TEXT)]
_Tag = Annotated[int, Meta(ge=0, le=2**24 - 1)]  # tun_id of VXLAN and Geneve has 24 bits
_Pmd = tuple[_Small, _Small | None, _Word, _Percent | None, _Small, _Count | None, _Count]
_Tunnel = tuple[_Name, _Word, _Word, _Word, _Word | None, _Word | None, bool | None, _Ms]


class _Headroom(msgspec.Struct, frozen=True):
    cores: dict[_Small, _Small] = {}
    busy: dict[_Small, _Percent] = {}


class _Versioned(msgspec.Struct, frozen=True):
    v: int


class _Live(_Versioned, frozen=True, kw_only=True, omit_defaults=True):
    host: _Name
    seq: _Count
    t: _Ms
    boot: _Word
    state: HostState
    since: _Ms
    why: _Text = ""
    pmds: list[_Pmd] = []
    headroom: _Headroom = _Headroom()
    tunnels: list[_Tunnel] = []
    services: dict[_Word, _Tag] = {}
    address: _Word = ""
    ver: _Word = ""


class _Known(_Versioned, frozen=True, kw_only=True):
    first: _Ms
    last: _Ms
    member: _Live


class _Help(_Versioned, frozen=True, kw_only=True, omit_defaults=True):
    host: _Name
    kind: _Word
    why: _Text
    t: _Ms
    n: _Small = 0
    by: Annotated[str, Meta(max_length=NAME)] = ""
    last: _Text = ""


class _Claim(_Versioned, frozen=True, kw_only=True):
    by: _Name
    tok: _Word
    t: _Ms


class _Done(_Versioned, frozen=True, kw_only=True):
    host: _Name
    kind: _Word
    why: _Text
    t: _Ms
    n: _Small
    by: _Name
    tok: _Word
    fence: _Count
    at: _Ms
    result: _Text


def member_bytes(member: Member) -> bytes:
    """The document of `live`. Raises ValueError where it would be too long."""
    return _bytes(_live(member), f"the document of {member.host}")


def known_bytes(known: Known) -> bytes:
    """The document of `known`. Raises ValueError where it would be too long."""
    document = _Known(v=VERSION, first=known.first_ms, last=known.last_ms, member=_live(known.last))
    return _bytes(document, f"the record of {known.last.host}")


def request_bytes(request: Help) -> bytes:
    """The document of a request. Raises ValueError where it would be too long."""
    return _bytes(_Help(v=VERSION, **_cut(request)), f"the request {request.id}")


def claim_bytes(claim: Claim) -> bytes:
    """The document of a claim."""
    return _bytes(_Claim(v=VERSION, **_cut(claim)), f"the claim of {claim.by}")


def done_bytes(done: Done) -> bytes:
    """The document of a request that was completed."""
    return _bytes(_Done(v=VERSION, **_cut(done)), f"the record of {done.host}")


def member(document: bytes, host: str) -> Member:
    """What stands under a host's name. Raises ValueError."""
    return _member(_read(document, _Live, host), host)


def known(document: bytes, host: str) -> Known:
    """What stands of a host that may be gone. Raises ValueError."""
    read = _read(document, _Known, host)
    return Known(read.first, read.last, _member(read.member, host))


def request(document: bytes, host: str, kind: str) -> Help:
    """What stands under the name of a request. Raises ValueError."""
    read = _read(document, _Help, request_id(host, kind))
    _own_name(read.host, host)
    if read.kind != kind:
        raise ValueError(f"{host}: it is of kind {short(read.kind)!r} and stands under {kind!r}")
    return Help(*_values(read, Help))


def claim(document: bytes, id: str) -> Claim:
    """What stands under the name of a request that is claimed. Raises ValueError."""
    return Claim(*_values(_read(document, _Claim, id), Claim))


def done(document: bytes, id: str) -> Done:
    """The record of a request that was completed. Raises ValueError."""
    return Done(*_values(_read(document, _Done, id), Done))


def host_name(name: str) -> str:
    """The name, if a host may be called so. Raises ValueError."""
    if not name or len(name) > NAME or not name.isprintable() or "/" in name or name in (".", ".."):
        raise ValueError(
            f"{short(one_line(name))!r} cannot be a host's name: 1 to {NAME} printable characters without /"
        )
    return name


def kind_name(kind: str) -> str:
    """The word, if a kind of request may be called so. Raises ValueError."""
    if len(kind) > WORD or not _KIND.fullmatch(kind):
        raise ValueError(f"{short(one_line(kind))!r} is no kind of request: small letters, digits and single - are")
    return kind


def _live(member: Member) -> _Live:
    return _Live(
        v=member.v,
        host=member.host,
        seq=member.seq,
        t=member.t,
        boot=member.boot,
        state=member.state,
        since=member.since,
        why=member.why[:TEXT],
        pmds=[(*pmd,) for pmd in member.pmds],
        headroom=_Headroom(dict(member.headroom.cores), dict(member.headroom.busy)),
        tunnels=[(*tunnel,) for tunnel in member.tunnels],
        services=dict(member.services),
        address=member.address,
        ver=member.ver,
    )


def _member(read: _Live, host: str) -> Member:
    _own_name(read.host, host)
    _own_version(read.v)
    if read.state not in OWN_WORDS:
        raise ValueError(f"{host}: no host says of itself that it is {read.state}")
    return Member(
        host=read.host,
        seq=read.seq,
        t=read.t,
        boot=read.boot,
        state=read.state,
        since=read.since,
        why=read.why,
        pmds=tuple(PmdBrief(*pmd) for pmd in read.pmds),
        headroom=Headroom(read.headroom.cores, read.headroom.busy),
        tunnels=tuple(TunnelNoun(*tunnel) for tunnel in read.tunnels),
        services=read.services,
        address=read.address,
        ver=read.ver,
        v=read.v,
    )


def _own_version(version: int) -> None:
    if version != VERSION:
        raise ValueError(f"it is of version {version}, this program reads {VERSION}")


def _own_name(named: str, host: str) -> None:
    if named != host:
        raise ValueError(f"{host}: it names itself {short(named)!r}")


def _values(read: msgspec.Struct, noun: Any) -> Iterator[Any]:
    return (getattr(read, field) for field in noun._fields)


def _cut(noun: Any) -> dict[str, Any]:
    """Its fields, the sentences among them no longer than they are read again."""
    fields: Mapping[str, Any] = noun._asdict()
    return {name: value[:TEXT] if name in ("why", "last", "result") else value for name, value in fields.items()}


def _bytes(document: msgspec.Struct, what: str) -> bytes:
    """One line: every text in it such as a terminal can bear."""
    fit = {key: sound(value, one_line) for key, value in msgspec.to_builtins(document).items()}
    return _capped(json_bytes(fit), what)


def _capped(document: bytes, what: str) -> bytes:
    if len(document) > LARGEST:
        raise ValueError(f"{what} has {len(document)} bytes, {LARGEST} is the most that the store takes")
    return document


def _read(document: bytes, form: type[T], name: str) -> T:
    """The document, whole and of this version; every text in it printable. name: what it stands under."""
    name = short(one_line(name))
    if len(document) > LARGEST:
        raise ValueError(f"{name}: {len(document)} bytes, {LARGEST} is the most that is read")
    try:
        _own_version(msgspec.json.decode(document, type=_Versioned).v)
        read = msgspec.json.decode(document, type=form)
    except (ValueError, RecursionError) as error:  # msgspec.DecodeError and UnicodeDecodeError are ValueErrors
        raise ValueError(f"{name}: {one_line(str(error))}") from error
    if unfit := next((text for text in _texts(msgspec.to_builtins(read)) if not text.isprintable()), None):
        raise ValueError(f"{name}: {short(one_line(unfit))!r} is not printable")
    return read


def _texts(document: Any) -> Iterator[str]:
    match document:
        case str():
            yield document
        case dict():
            for key, value in document.items():
                yield from _texts(key)
                yield from _texts(value)
        case list() | tuple():
            for item in document:
                yield from _texts(item)
