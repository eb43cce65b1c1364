"""Registries: names, near misses, and packages that join by entry point, whole or with something missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tillage.core.errors import UserError
from tillage.core.registry import Registry, snake_case
from tillage.core.spec import Spec

HERE: Registry[Spec] = Registry("thing", group="tillage.test_things")


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Spec]:
    """A registry joined by an installed package with two entry points; one needs what is not installed."""
    registry: Registry[Spec] = Registry("thing", group="tillage.test_things")
    monkeypatch.setattr(sys.modules[__name__], "HERE", registry)
    info = tmp_path / "sower-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sower\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tillage.test_things]\nwhole_seed = sower_whole\nbroken_seed = sower_broken\n"
    )
    use = f"import sys\nfrom tillage.core.spec import Spec\nHERE = sys.modules[{__name__!r}].HERE\n"
    (tmp_path / "sower_whole.py").write_text(
        f"{use}@HERE.register\nclass WholeSeed(Spec):\n    depth: int = 1\n"
    )
    (tmp_path / "sower_broken.py").write_text(
        f"{use}import no_such_drill\n@HERE.register\nclass BrokenSeed(Spec):\n    depth: int = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("sower_whole", "sower_broken"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return registry


def test_an_entry_point_joins(things: Registry[Spec]) -> None:
    assert things.get("whole_seed")().model_dump() == {"depth": 1}
    assert things.names() == ["whole_seed"]


def test_an_entry_point_whose_dependency_is_missing_is_left_out_and_says_why(things: Registry[Spec]) -> None:
    assert [name for name, _ in things] == ["whole_seed"]
    assert things.missing() == {"broken_seed": "No module named 'no_such_drill'"}
    with pytest.raises(UserError, match="'broken_seed' could not be loaded") as caught:
        things.get("broken_seed", "recipe.yaml: steps[0]")
    assert caught.value.where == "recipe.yaml: steps[0]"
    assert "no_such_drill" in str(caught.value.got)


def test_an_entry_point_with_a_fault_of_its_own_is_not_hidden(things: Registry[Spec], tmp_path: Path) -> None:
    (tmp_path / "sower_broken.py").write_text("raise ValueError('a fault')\n")
    with pytest.raises(ValueError, match="a fault"):
        things.names()


def test_unknown_names_get_the_nearest(things: Registry[Spec]) -> None:
    with pytest.raises(UserError, match="unknown thing 'whole_sed'") as caught:
        things.get("whole_sed")
    assert "whole_seed" in str(caught.value.hint)


def test_two_classes_of_one_name_are_refused() -> None:
    registry: Registry[Spec] = Registry("thing")

    def make(module: str) -> type[Spec]:
        return type("Plough", (Spec,), {"__module__": module, "__qualname__": "Plough"})

    first = registry.register(make("a"))
    assert registry.register(first) is registry.get("plough")
    with pytest.raises(UserError, match="two things are called 'plough'"):
        registry.register(make("b"))


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("MinHashDedup", "minhash_dedup"),
        ("C4Lines", "c4_lines"),
        ("PIIMask", "pii_mask"),
        ("HTMLToText", "html_to_text"),
    ],
)
def test_names_in_yaml(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_shipped_modules_are_imported_when_one_of_their_names_is_asked_for(
    things: Registry[Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = f"import sys\nfrom tillage.core.spec import Spec\nHERE = sys.modules[{__name__!r}].HERE\n"
    for name in ("barrow", "cart"):
        text = f"{use}@HERE.register\nclass {name.title()}(Spec):\n    wheels: int = 1\n"
        (tmp_path / f"shipped_{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"shipped_{name}", raising=False)
    things.ship({"shipped_barrow": ("barrow",), "shipped_cart": ("cart",)})
    assert things.get("barrow").__module__ == "shipped_barrow"
    assert "shipped_cart" not in sys.modules
    with pytest.raises(UserError) as caught:
        things.get("carts")
    assert "cart" in str(caught.value.hint)
    with pytest.raises(UserError, match="two things are called 'cart'"):
        things.register(type("Cart", (Spec,), {}))
    assert things.names() == ["barrow", "cart", "whole_seed"]


def test_what_is_said_to_be_shipped_is_what_the_modules_register() -> None:
    from tillage.data.formats import sources
    from tillage.ops import operators

    for registry in (operators, sources):
        ours = {name: cls.__module__ for name, cls in registry if cls.__module__.startswith("tillage.")}
        assert registry.shipped.items() <= ours.items()
    known = {name for name, module in operators.shipped.items() if module.startswith("tillage.ops.")}
    folder = Path(sys.modules["tillage.ops"].__path__[0])
    made = {name for name, cls in operators if cls.__module__.startswith("tillage.ops.")}
    assert made == known
    with_operators = {
        f"tillage.ops.{p.stem}" for p in folder.glob("*.py") if "\n@operator\n" in p.read_text()
    }
    assert with_operators == set(operators.shipped.values())
