"""Ways to damage a file, or to make it say what no writer would: hypothesis strategies by kind of file."""

import json
import re
from typing import Any

import hypothesis.strategies as st

HOSTILE: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    10**400,
    1e308,
    -0.5,
    float("nan"),
    float("inf"),
    "",
    "???",
    "../../../etc",
    "/etc/passwd",
    "${oc.env:HOME}",
    "a\0b",
    "\ud800",
    "{0.__class__}",
    "{video_key:999999999}",
    "x" * 5000,
    [],
    {},
    [[]],
    [0] * 50,
    {"a": 1},
    "1e9",
    "é漢🤖",
]
XML_HOSTILE = ["-1", "0", "nan", "1e300", "1000000000", "2147483648", "../../etc/passwd", "", "a" * 3000, "1 2 3 4 5 6"]


def spoil_bytes(data: bytes) -> st.SearchStrategy[bytes]:
    size = len(data)
    place = st.integers(0, max(0, size - 1))

    def edited(edits: list[tuple[int, int]]) -> bytes:
        found = bytearray(data)
        for where, value in edits:
            found[where] = value
        return bytes(found)

    return st.one_of(
        st.builds(lambda end: data[:end], place),
        st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=8).map(edited),
        st.builds(lambda a, b: data[:a] + data[b:], place, place),
        st.builds(lambda a, more: data[:a] + more + data[a:], place, st.binary(min_size=1, max_size=64)),
        st.builds(
            lambda head: edited([(i, value) for i, value in enumerate(head)]), st.binary(min_size=1, max_size=16)
        ),
        st.binary(max_size=200),
    )


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, item in below for place in places(item, (*here, key)))]


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


def spoil_json(data: bytes) -> st.SearchStrategy[bytes]:
    value = json.loads(data)
    leaves = st.tuples(st.sampled_from(places(value)), st.sampled_from(HOSTILE))

    def edited(edits: list[tuple[tuple[Any, ...], Any]]) -> bytes:
        found = value
        for place, new in edits:
            try:
                found = replaced(found, place, new)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier edit removed the place
        return json.dumps(found).encode()

    nested = st.sampled_from([b"[" * 50_000, b'{"a":' * 50_000, b"1" * 6000, b"\xff\xfe"])
    return st.one_of(st.lists(leaves, min_size=1, max_size=3).map(edited), nested, spoil_bytes(data))


def spoil_lines(data: bytes) -> st.SearchStrategy[bytes]:
    lines = data.splitlines(keepends=True)
    one = st.integers(0, len(lines) - 1)
    return st.one_of(
        one.flatmap(
            lambda i: spoil_json(lines[i]).map(lambda new: b"".join([*lines[:i], new + b"\n", *lines[i + 1 :]]))
        ),
        spoil_bytes(data),
    )


def spoil_xml(data: bytes) -> st.SearchStrategy[bytes]:
    values = [(found.start(1), found.end(1)) for found in re.finditer(rb'="([^"]*)"', data)]

    def edited(span: tuple[int, int], new: str) -> bytes:
        return data[: span[0]] + new.encode() + data[span[1] :]

    inserted = st.sampled_from(
        [
            b'<replicate count="99999999"><geom size="1"/></replicate>',
            b'<include file="model.xml"/>',
            b'<asset><mesh name="m" file="../../../../etc/hostname"/></asset>',
            b'<size memory="900G" nkey="99999999"/>',
            b'<extension><plugin plugin="a.so"/></extension>',
            b"<body>" * 3000,
            b"&bomb;",
            b'<option timestep="-1"/>',
            b'<asset><texture name="t" type="2d" builtin="flat" width="99999" height="99999"/></asset>',
        ]
    )
    tags = [found.end() for found in re.finditer(rb"<[a-z][^>]*[^/]>", data)]
    return st.one_of(
        st.builds(edited, st.sampled_from(values), st.sampled_from(XML_HOSTILE)),
        st.builds(lambda at, new: data[:at] + new + data[at:], st.sampled_from(tags), inserted),
        spoil_bytes(data),
    )


def spoil_yaml(data: bytes) -> st.SearchStrategy[bytes]:
    lines = data.splitlines(keepends=True)
    hostile = st.sampled_from(
        [
            b"a: &a [*a]\n",
            b"a0: &a0 [x,x]\n" + b"".join(b"a%d: &a%d [*a%d,*a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40)),
            b"x: !!python/object/apply:os.system ['touch pwned']\n",
            b"x: ${oc.env:HOME}\n",
            b"x: ${x}\n",
            b"? [a, b]\n: 1\n",
            b"y: 2001-02-30\n",
            b"z: " + b"[" * 3000 + b"\n",
            b"_target_: os.system\n",
            b"defaults: [/stage/run]\n",
            b"1: 2\n",
            b"x: 1_000:99:99\n",
            b"<<: 3\n",
            b"x: !!binary 1\n",
            b"=: 1\n",
            b"\x00\n",
            b"name: [\n",
            b"---\na: 1\n---\nb: 2\n",
            b"a: &a {b: *a}\n",
            b"a: &a\n  <<: *a\n",
            b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (i, i, i - 1) for i in range(1, 5000)),
            b"z: " + b"{a: " * 40 + b"1" + b"}" * 40 + b"\n",
            b"z: " + b"[" * 25 + b"]" * 25 + b"\n",
            b'x: !!int ""\n',
            b"x: !!timestamp y\n",
            b"x: !!bool y\n",
            b"x: !!set {a, b}\n",
            b"x: 9" + b"9" * 6000 + b"\n",
            b"x: 1e999\n",
            b"x: ._\n",
            b"x: ${a" + b"[" * 30_000 + b"}\n",
            b"x: ${${${name}}}\n",
            b'"a\\nb": 1\n',
            b'name: "a\\nb"\n',
            b"name: a\n",
            b"# @package _global_\n",
            b"hydra: {searchpath: [file:///]}\n",
            b"defaults: 5\n",
            b"defaults: [{a: [1]}, a]\n",
            b"# @package ${name}\n",
        ]
    )
    where = st.integers(0, len(lines))
    return st.one_of(
        st.builds(lambda i, new: b"".join([*lines[:i], new, *lines[i:]]), where, hostile), spoil_bytes(data)
    )


SPOIL = {"bytes": spoil_bytes, "json": spoil_json, "lines": spoil_lines, "xml": spoil_xml, "yaml": spoil_yaml}
