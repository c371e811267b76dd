# SPDX-License-Identifier: Apache-2.0
"""The configuration file: its defaults, and errors of one line that name the key, the value and the cure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_keepalive import config, config_file
from ovs_keepalive.config import Config
from ovs_keepalive.config_file import Invalid


def _error(text: str) -> str:
    with pytest.raises(Invalid) as caught:
        config_file.parse(text, "c.yaml")
    line = str(caught.value)
    assert line.startswith("c.yaml: ")
    assert line.isprintable(), line
    return line


# --- what may be said ----------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_contract() -> None:
    defaults = Config()
    assert defaults.schema == "manual"
    assert defaults.refresh == 1000
    assert defaults.max_main_share == 1.0
    assert defaults.restart_deadline == 60.0
    assert defaults.hung_after == 60.0
    assert (defaults.ovsdb, defaults.vswitchd_pidfile) == ("", "")


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "null"])
def test_a_file_that_says_nothing_gives_the_defaults(text: str) -> None:
    assert config_file.parse(text, "c.yaml") == Config()


def test_every_key_can_be_said() -> None:
    said = config_file.parse(
        "ovsdb: unix:/tmp/db.sock\n"
        "vswitchd-pidfile: /run/v.pid\n"
        "refresh: 60000\n"
        "schema: auto\n"
        "max-main-share: 2.5\n"
        "restart-deadline: 120\n"
        "hung-after: 30\n",
        "c.yaml",
    )
    assert said == Config(
        ovsdb="unix:/tmp/db.sock",
        vswitchd_pidfile="/run/v.pid",
        refresh=60000,
        schema="auto",
        max_main_share=2.5,
        restart_deadline=120.0,
        hung_after=30.0,
    )


@pytest.mark.parametrize("word", ["off", "on", "yes", "no", "Off", "NO", "y"])
def test_off_and_its_like_are_words(word: str) -> None:
    assert config_file.parse(f"vswitchd-pidfile: {word}", "c.yaml").vswitchd_pidfile == word


def test_true_is_no_word() -> None:
    assert "ovsdb: True: " in _error("ovsdb: true")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfrefresh: 2000\n")
    assert config_file.load(path).refresh == 2000


def test_the_default_file_says_nothing_and_each_of_its_keys_may_be_said() -> None:
    text = config.default_file()
    assert config_file.parse(text, "c.yaml") == Config()
    said = "".join(line[1:] + "\n" for line in text.splitlines() if re.match(r"#(  )?[a-z-]+:( |$)", line))
    assert config_file.parse(said, "c.yaml") == Config()
    names = [f"{section}.{name}" if section else name for section, name in _said(said)]
    assert names == [key.name for key in config.documented_keys()]
    assert max(map(len, text.splitlines())) <= 120


def _said(text: str) -> Iterator[tuple[str, str]]:
    """Section and name of each key in a file of sections."""
    section = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if not line.startswith(" "):
            section = "" if value else name
        if value:
            yield section, name.strip()


def test_every_key_tells_what_it_means_and_which_values_it_takes() -> None:
    by_name = {key.name: key for key in config.documented_keys()}
    assert by_name["refresh"].kind == "integer, 1000 to 60000 ms"
    assert by_name["schema"].kind == "auto or manual"
    assert by_name["restart-deadline"].kind == "number, 1 to 3600 s"
    assert all(key.text.endswith(".") for key in by_name.values())


@pytest.mark.parametrize("cpus", ["auto", "inherit", "0", "0,2-3", "12-15,40"])
def test_an_affinity_is_a_word_or_a_list_of_cpus(cpus: str) -> None:
    assert config_file.parse(f"affinity: '{cpus}'", "c.yaml").affinity == cpus


def test_a_section_has_keys_of_its_own() -> None:
    said = config_file.parse(
        "fleet:\n"
        "  zookeeper: zk1.example:2181,[::1]:2182\n"
        "  help: off\n"
        "  headroom-cpus: 2-5,8\n"
        f"  services: {{web: vm1, {'d' * 64}: vm2}}\n",
        "c.yaml",
    ).fleet
    assert said.zookeeper == "zk1.example:2181,[::1]:2182"
    assert said.help == "off"
    assert said.headroom_cpus == "2-5,8"
    assert said.services == {"web": "vm1", "d" * 64: "vm2"}
    assert said.refresh == Config().fleet.refresh


def test_no_host_is_in_a_fleet_by_default() -> None:
    defaults = Config().fleet
    assert defaults.zookeeper == ""
    assert not any((defaults.insecure, defaults.mesh, defaults.rebalance, defaults.add_cores, defaults.hook))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fleet: {zookeper: x}", ("fleet.zookeper: unknown key", "fleet.zookeeper", "fleet.mesh")),
        ("fleet: {zookeeper: zk1}", ("fleet.zookeeper: 'zk1': expected HOST:PORT",)),
        ("fleet: {help: maybe}", ("fleet.help: 'maybe': expected act-local or advise or hook or off",)),
        ("fleet: {cell: a/b}", ("fleet.cell: 'a/b': expected letters",)),
        ("fleet: {node: ..}", ("fleet.node: '..': expected letters",)),
        ("fleet: {hook: run.sh}", ("fleet.hook: 'run.sh': expected an absolute path",)),
        ("fleet: {add-cores: 1-}", ("fleet.add-cores: '1-': expected CPUs",)),
        ("fleet: {session-timeout: 0}", ("fleet.session-timeout: 0: expected",)),
        ("fleet: {services: {a: 1}}", ("fleet.services", "expected a map of names, of 1 to 64")),
        (
            f"fleet: {{services: {{{'x' * 65}: p}}}}",
            (f"fleet.services: {{'{'x' * 65}': 'p'}}: expected a map of names, of 1 to 64 characters each, to names",),
        ),
        ("fleet: on", ("fleet: 'on': expected `object`",)),
    ],
)
def test_a_wrong_key_of_a_section_is_named_with_it(text: str, words: tuple[str, ...]) -> None:
    line = _error(text)
    assert [word for word in words if word not in line] == []


# --- what may not --------------------------------------------------------------------------------


def test_an_unknown_key_is_named_with_those_that_are_known() -> None:
    line = _error("refrehs: 2000")
    assert "refrehs" in line
    assert "unknown key" in line
    assert "max-main-share" in line


def test_a_key_is_written_with_hyphens() -> None:
    line = _error("max_main_share: 2")
    assert "max_main_share: unknown key" in line
    assert "max-main-share" in line


@pytest.mark.parametrize(
    ("text", "key", "value", "cure"),
    [
        ("refresh: soon", "refresh", "'soon'", "int"),
        ("refresh: '2000'", "refresh", "'2000'", "int"),
        ("refresh: 1.5", "refresh", "1.5", "int"),
        ("refresh: true", "refresh", "True", "int"),
        ("refresh:", "refresh", "None", "int"),
        ("refresh: [1000]", "refresh", "[1000]", "int"),
        ("refresh: {a: 1}", "refresh", "{'a': 1}", "int"),
        ("ovsdb: 6640", "ovsdb", "6640", "str"),
        ("refresh: 999", "refresh", "999", "1000"),
        ("refresh: 60001", "refresh", "60001", "60000"),
        ("refresh: -1", "refresh", "-1", "1000"),
        ("max-main-share: 0", "max-main-share", "0", "0.1"),
        ("max-main-share: 100", "max-main-share", "100", "50"),
        ("max-main-share: .nan", "max-main-share", "nan", "0.1"),
        ("restart-deadline: .inf", "restart-deadline", "inf", "3600"),
        ("restart-deadline: 0.5", "restart-deadline", "0.5", "1"),
        ("hung-after: 3", "hung-after", "3", "4"),
        ("schema: off", "schema", "'off'", "auto"),
        ("schema: Auto", "schema", "'Auto'", "manual"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_key_and_the_cure(
    text: str, key: str, value: str, cure: str
) -> None:
    line = _error(text)
    assert f"{key}: {value}: " in line
    assert cure in line.split(f"{value}: ", 1)[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ovsdb: off", ("ovsdb: off: ", "write unix:FILE")),
        ("ovsdb: tcp:ovs.example:6640", ("ovsdb: tcp:ovs.example:6640: ", "numeric address")),
        ("ovsdb: tcp:127.0.0.1:0", ("ovsdb: ", "a port of 1 to 65535")),
        ("ovsdb: ssl:127.0.0.1:6640", ("ovsdb: ssl:", "set ssl-private-key and ssl-certificate and ssl-ca-cert too")),
        ("ssl-hostname: a..b", ("ssl-hostname: ", "label empty or too long")),
        ("affinity: 3-1", ("affinity: '3-1'",)),
        ("affinity: '99999'", ("affinity: '99999'",)),
        ("state-dir: var", ("state-dir: 'var': expected an absolute path",)),
        ("state-dir: ''", ("state-dir: '': expected an absolute path",)),
        ("refresh: 2000\nschema: auto\nrefresh: 3000", ("refresh: given twice: remove one",)),
        ("offload: {capacity: 1, capacity: 2}", ("capacity: given twice: remove one",)),
    ],
)
def test_what_a_start_would_refuse_is_refused_when_it_is_read(text: str, words: tuple[str, ...]) -> None:
    line = _error(text)
    assert [word for word in words if word not in line] == []


def test_a_number_beyond_all_floats_is_one_line() -> None:
    """In YAML 1.1 1:30:00.5 is a number of base 60."""
    assert "not valid YAML" in _error(f"refresh: {':'.join(['1'] * 200)}.0")


@pytest.mark.parametrize("text", ["- refresh: 1000\n", "refresh\n", "42\n", "'text'\n"])
def test_a_document_that_is_no_mapping_is_told_as_such(text: str) -> None:
    line = _error(text)
    assert "the document" in line
    assert "object" in line or "mapping" in line


@pytest.mark.parametrize(
    "text",
    [
        "refresh: [1\n",
        "refresh: 1: 2\n",
        "\trefresh: 1\n",
        "refresh: 'open\n",
        "a: *nowhere\n",
        "a: !!python/object/apply:os.system ['true']\n",
        "a: !unknown x\n",
        "? [1, 2]\n: 3\n",
        "a: 1\n...\nb: 2\n--- c\n",
        "a: \x01\n",
        "%YAML 9.9\n--- x\n",
        "[" * 400,
    ],
)
def test_what_is_no_yaml_is_one_line_with_the_reason(text: str) -> None:
    assert "not valid YAML" in _error(text)


def test_an_error_of_yaml_names_its_line() -> None:
    assert "line 3: " in _error("refresh: 1000\n\nschema: 1: 2\n")


@pytest.mark.parametrize("text", ["refresh: !!timestamp soon", 'refresh: !!int ""', "refresh: !!bool maybe"])
def test_a_value_that_is_not_of_its_own_tag_is_one_line(text: str) -> None:
    _error(text)


@pytest.mark.parametrize("text", ["1: 2", "null: 2", "[a]: 2", "true: 2", "2026-01-01: 2", "? {a: b}\n: 2"])
def test_a_key_that_is_no_word_is_one_line(text: str) -> None:
    _error(text)


@pytest.mark.parametrize("key", ["a\\nb", "a\\u2028b", "\\e[2J", "\\0", "a`b", "`", ""])
def test_a_hostile_key_is_one_line(key: str) -> None:
    _error(f'"{key}": 1')


@pytest.mark.parametrize("value", ["a\\nb", "\\e[2J", "a`$.b`", " - at `$.refresh`"])
def test_a_hostile_value_is_one_line(value: str) -> None:
    assert "refresh" in _error(f'refresh: "{value}"')


def test_text_that_is_no_unicode_is_one_line() -> None:
    _error('refresh: "\\ud800"')
    _error('"\\ud800": 1')


@pytest.mark.parametrize("text", ["refresh: &a [*a]", "a: &a {b: 1}\nc: {<<: [*a, *a]}", "a: &a 1\n*a : 2"])
def test_an_alias_is_refused_with_its_line(text: str) -> None:
    """A document that holds itself, and one whose few lines mean more than memory holds, need them."""
    assert "*a: aliases are not read here: write the value itself" in _error(text)


def test_a_value_of_any_size_is_one_short_line() -> None:
    assert len(_error(f"refresh: [{', '.join(['1'] * 4000)}]")) < 500
    assert len(_error(f"refresh: {'x' * 9000}")) < 500
    assert "a number of more than 4300 digits" in _error(f"refresh: 0x{'f' * 9000}")


def test_what_is_too_long_for_a_configuration_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text(f"refresh: 3000{' ' * config_file.LARGEST}")
    with pytest.raises(Invalid, match=r"long\.yaml: more than 16384 characters: .*: name the right file"):
        config_file.load(path)


# --- the file ------------------------------------------------------------------------------------


def test_the_default_file_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_file, "DEFAULT_PATH", tmp_path / "absent" / "config.yaml")
    assert config_file.load(None) == Config()


def test_the_default_file_is_read_where_it_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("refresh: 3000\n")
    monkeypatch.setattr(config_file, "DEFAULT_PATH", path)
    assert config_file.load(None).refresh == 3000


def test_a_file_that_is_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"absent\.yaml: No such file or directory: .*--config"):
        config_file.load(tmp_path / "absent.yaml")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"Is a directory: .*--config"):
        config_file.load(tmp_path)


def test_a_default_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one in a directory that may not be searched: whether it exists cannot be known then."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    path = hidden / "config.yaml"
    path.write_text("refresh: 3000\n")
    hidden.chmod(0)
    monkeypatch.setattr(config_file, "DEFAULT_PATH", path)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(Invalid, match="Permission denied"):
            config_file.load(None)
    finally:
        if root:
            os.seteuid(0)
        hidden.chmod(0o700)


def test_a_file_that_is_not_utf8_is_named_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"ovsdb: unix:/tmp/\xe9\n")
    with pytest.raises(Invalid) as caught:
        config_file.load(path)
    line = str(caught.value)
    assert line == f"{path}: not UTF-8 text (byte 17): save it as UTF-8"


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("refresh: 5\n")
    with pytest.raises(Invalid, match=r"c\.yaml: refresh: 5: "):
        config_file.load(path)


# --- a reload ------------------------------------------------------------------------------------


def test_a_reload_takes_the_live_keys_and_names_those_that_wait_for_a_restart() -> None:
    old = Config()
    new = Config(refresh=5000, ovsdb="unix:/tmp/other.sock", hung_after=30.0)
    taken, lines = config.merged(old, new)
    assert taken == Config(refresh=5000, hung_after=30.0)
    assert lines == (
        "ovsdb: '' -> 'unix:/tmp/other.sock': at the next start",
        "refresh: 1000 -> 5000",
        "hung-after: 60.0 -> 30.0",
    )


def test_a_reload_of_an_unchanged_file_changes_nothing() -> None:
    assert config.merged(Config(refresh=2000), Config(refresh=2000)) == (Config(refresh=2000), ())


# --- sections ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "offload: {allow-act: true, capacity: 10, table-groups: [[p0, p1], [p2]]}",
        "offload.allow-act: true\noffload.capacity: 10\noffload.table-groups: [[p0, p1], [p2]]",
        "offload.capacity: 10\noffload:\n  allow-act: true\n  table-groups:\n  - [p0, p1]\n  - [p2]",
    ],
)
def test_a_key_with_a_dot_may_stand_in_its_section(text: str) -> None:
    read = config_file.parse(text, "c.yaml")
    assert (read.offload.allow_act, read.offload.capacity) == (True, 10)
    assert read.offload.table_groups == (("p0", "p1"), ("p2",))


def test_an_empty_section_says_nothing() -> None:
    assert config_file.parse("offload:", "c.yaml") == Config()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("offload: 3", "offload: 3: expected `object`, got `int`"),
        ("offload: {capacty: 1}", "offload.capacty: unknown key"),
        ("offload: {capacity: many}", "offload.capacity: 'many': expected `int`"),
        ("offload: {allow-act: yes}", "offload.allow-act: 'yes': expected true or false"),
        ("offload: {capacity: 1}\noffload.capacity: 2", "offload.capacity: given twice: remove one"),
        ("offload: {table-groups: [[1]]}", "offload.table-groups: [[1]]: expected a list of lists of names"),
        ("offload: {table-groups: [[p0, p1], [p1]]}", "p1: in two groups, or twice in one: name it once"),
    ],
)
def test_what_is_wrong_in_a_section_is_told_by_its_full_name(text: str, said: str) -> None:
    assert said in _error(text)
