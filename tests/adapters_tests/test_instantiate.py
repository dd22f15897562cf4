"""instantiate: objects from configs, and one clear line for each mistake."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from harness.errors import EndedByCode
from harness.instantiate import InstantiationError, instantiate, locate, to_plain

HERE = __name__


class Thing:
    """Something to build."""

    def __init__(self, a: int, b: Any = 2, *, c: Any = None) -> None:
        if a < 0:
            raise ValueError(f"a has to be at least 0, but got {a}")
        self.a, self.b, self.c = a, b, c


class Broken:
    """It cannot be built."""

    def __init__(self, error: BaseException) -> None:
        raise error


@dataclass
class ThingConfig:
    a: int = 1
    c: Any = field(default_factory=lambda: {"_target_": f"{HERE}.Thing", "a": 5})
    _target_: str = f"{HERE}.Thing"


def thing(**values: Any) -> dict[str, Any]:
    return {"_target_": f"{HERE}.Thing", **values}


@pytest.mark.parametrize(
    "cfg",
    [
        thing(a=1, c=thing(a=5)),
        ThingConfig(),
        OmegaConf.structured(ThingConfig()),
        OmegaConf.create(thing(a=1, c=thing(a=5))),
    ],
)
def test_every_kind_of_config_nested(cfg: Any) -> None:
    built = instantiate(cfg, b=7)
    assert type(built) is Thing and (built.a, built.b) == (1, 7)
    assert type(built.c) is Thing and built.c.a == 5


def test_nesting_in_lists_and_dicts_and_directives() -> None:
    built = instantiate(thing(a=1, b=[thing(a=2), 3], c={"x": thing(a=4)}))
    assert built.b[0].a == 2 and built.b[1] == 3 and built.c["x"].a == 4
    assert instantiate(thing(_args_=[9])).a == 9
    partial = instantiate(thing(a=1, _partial_=True))
    assert isinstance(partial, functools.partial) and partial(b=3).b == 3
    assert instantiate(thing(a=1, c=thing(a=2), _recursive_=False)).c == thing(a=2)
    assert instantiate({"_target_": Thing, "a": 1}).a == 1


def test_the_config_is_not_changed() -> None:
    cfg = thing(a=1, c=thing(a=2))
    instantiate(cfg)
    assert cfg == thing(a=1, c=thing(a=2))


def test_objects_that_happen_to_be_dataclasses_are_kept() -> None:
    @dataclass
    class Plain:
        x: int

    value = Plain(3)
    assert instantiate(thing(a=1, b=value)).b is value
    assert to_plain({"b": (value,)})["b"][0] is value


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (3, "config: expected a mapping with `_target_`, but got 3"),
        ({"a": 1}, "config: no `_target_` among its keys: a"),
        ({"_target_": 3}, "config: `_target_` must be an import path, but got 3"),
        ({"_target_": "a..b"}, "config: `_target_` must be an import path, but got 'a..b'"),
        ({"_target_": "Thing"}, "config: `_target_: Thing` names no module (write `module.Name`)"),
        ({"_target_": "no_such.Thing"}, "config: cannot find `no_such.Thing`: no module named `no_such`"),
        (
            {"_target_": f"{HERE}.Thong"},
            f"config: cannot find `{HERE}.Thong`: `{HERE}` has no attribute `Thong`",
        ),
        ({"_target_": f"{HERE}.HERE"}, f"config: `{HERE}.HERE` is a str and no class, so it is not called"),
        ({"_target_": f"{HERE}.thing"}, f"config: `{HERE}.thing` is a function and no class, so it is not called"),
        ({"_target_": thing}, "config: `thing` is a function and no class, so it is not called"),
        ({"_target_": "os.system", "command": "x"}, "config: `os.system` is in Python's standard library"),
        ({"_target_": "subprocess.Popen", "args": "x"}, "config: `subprocess.Popen` is in Python's standard library"),
        ({"_target_": "builtins.eval", "_args_": ["x"]}, "config: `builtins.eval` is in Python's standard library"),
        (thing(a=1, c=[{"x": {"_target_": f"{HERE}.Path"}}]), f"config.c[0].x: `{HERE}.Path` is in Python's standard"),
        ({"_target_": f"{HERE}.subprocess.Popen"}, f"config: `{HERE}.subprocess.Popen` is in Python's standard"),
        (thing(a=1, z=2), f"config: {HERE}.Thing does not accept `z`; it accepts: a, b, c"),
        (thing(), f"config: {HERE}.Thing: missing a required argument: 'a'; it accepts: a, b, c"),
        (thing(a="???"), f"config: {HERE}.Thing: no value given for `a`"),
        (thing(a=-1), f"config: {HERE}.Thing: ValueError: a has to be at least 0, but got -1"),
        (thing(a="x"), f"config: {HERE}.Thing: TypeError: '<' not supported"),
        (
            thing(a=1, c={"x": [thing(a=-2)]}),
            f"config.c.x[0]: {HERE}.Thing: ValueError: a has to be at least 0",
        ),
    ],
)
def test_mistakes(cfg: Any, message: str) -> None:
    with pytest.raises(InstantiationError) as caught:
        instantiate(cfg)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_other_errors_keep_their_type_and_say_where() -> None:
    with pytest.raises(RuntimeError) as caught:
        instantiate({"_target_": Broken, "error": RuntimeError("out of memory")})
    assert "while building" in caught.value.__notes__[0]


def test_a_class_that_ends_the_program_is_an_error_like_others() -> None:
    with pytest.raises(EndedByCode, match="SystemExit: 0"):
        instantiate({"_target_": Broken, "error": SystemExit(0)})
    with pytest.raises(KeyboardInterrupt):
        instantiate({"_target_": Broken, "error": KeyboardInterrupt()})


def test_a_class_of_another_kind_is_not_called() -> None:
    def kind(key: str, cls: type) -> str | None:
        return None if cls is Thing or key == "c" else "a Thing"

    broken = {"_target_": Broken, "error": RuntimeError("it was called")}
    with pytest.raises(InstantiationError, match=r"^config\.b: `.*Broken` is not a Thing, so it is not called"):
        instantiate(thing(a=1, b=broken), kind)
    with pytest.raises(RuntimeError, match="it was called"):
        instantiate(thing(a=1, c=broken), kind)


def test_a_users_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mystrategies.py").write_text(
        "class Gated:\n    def __init__(self, gate=0.5):\n        self.gate = gate\n"
    )
    (tmp_path / "mybroken.py").write_text("1 / 0\n")
    (tmp_path / "myexit.py").write_text("raise SystemExit\n")
    (tmp_path / "myimport.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert instantiate({"_target_": "mystrategies.Gated", "gate": 0.1}).gate == 0.1
    with pytest.raises(InstantiationError, match=r"has no attribute `Other` .it has: Gated"):
        locate("mystrategies.Other")
    with pytest.raises(InstantiationError, match="`mybroken` fails with ZeroDivisionError: division by zero"):
        locate("mybroken.X")
    with pytest.raises(InstantiationError, match="`myexit` fails with EndedByCode: SystemExit"):
        locate("myexit.X")
    with pytest.raises(InstantiationError, match="`myimport` needs a module `no_such_package` that is not there"):
        locate("myimport.X")


def test_imports_no_torch() -> None:
    code = "import sys, harness.instantiate; sys.exit('torch' in sys.modules or 'omegaconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
