"""Yamls of strangers: what is read, and that the rest is refused in one line."""

from pathlib import Path

import pytest

from deploy import compose
from robot_wm.contracts.errors import UserError
from robot_wm.data import yamls


def test_values_are_as_hydra_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("a: 1e-3\nb: 2001-01-01\nc: [1, .5, yes, null]\nd: &d {x: 1}\ne: *d\nf: ${c.x}\n")
    assert yamls.read(file) == {
        "a": 0.001, "b": "2001-01-01", "c": [1, 0.5, True, None], "d": {"x": 1}, "e": {"x": 1}, "f": "${c.x}",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]", "a: &a {b: {c: *a}}", "<<: &a {<<: *a}", "a: " + "[" * 40 + "]" * 40, "a: 1\na: 2", "a: !!int ''",
        "a: !!set {b}", "a: !x 1", "a: ${oc.env:HOME}", "a: ${b[0]}", "a: ${" + "[" * 9000, "a: " + "${b}" * 9,
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99)), "a: [" + "0," * 20_000 + "]",
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 20)),
        "a: " + "9" * 5000, "a: 1\n---\nb: 2", "\0", "[",
    ],
)  # fmt: skip
def test_what_is_no_plain_value_or_grows_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError) as refused:
        yamls.read(tmp_path / "a.yaml")
    assert "\n" not in str(refused.value)


def test_a_yaml_of_the_users_own_sets_nothing_but_its_values(tmp_path: Path) -> None:
    (tmp_path / "embodiment").mkdir()
    file = tmp_path / "embodiment" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults: [/stage/run]\nhydra: {job: {chdir: true}}\nname: mine\n")
    values = compose.compose("run", ["embodiment=mine", "bundle=x", "embodiment.name=yours"], [tmp_path])
    assert values["embodiment"] == {"defaults": ["/stage/run"], "hydra": {"job": {"chdir": True}}, "name": "yours"}
    assert values["bundle"] == "x"
    file.write_text("- 1\n")
    with pytest.raises(UserError, match="holds no keys"):
        compose.compose("run", ["embodiment=mine"], [tmp_path])
