"""One grammar for what is named, in a table or outside of the package."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, SupportsFloat

import numpy as np
import pytest

from tutelage.errors import UserError
from tutelage.specs import (
    Between,
    Probability,
    ProbabilitySchedule,
    Table,
    build,
    load_object,
)
from tutelage.types import Schedule


class Drawn:
    """An entry of a table; its parameters are its options."""

    def __init__(
        self,
        share: Probability,
        *,
        arms: int,
        window: Annotated[int, Between(1, 100)] = 10,
        rate: Schedule | None = None,
        how: Literal["best", "mean"] = "best",
        name: str = "",
        inner: Annotated[Any, Table("inner", {"plain": lambda: "plain"})] = None,
    ) -> None:
        self.given = (share, arms, window, how, name, inner)


def scheduled(epsilon: ProbabilitySchedule) -> float:
    return epsilon(50)


def bare() -> str:
    return "bare"


def unannotated(weight):  # type: ignore[no-untyped-def]
    return weight


TABLE: dict[str, Callable[..., Any]] = {"drawn": Drawn, "scheduled": scheduled, "bare": bare}
NOTHING = None


def made(text: str) -> Any:
    return build("thing", text, TABLE, **({"arms": 3} if text.startswith("drawn") else {}))


def test_options_are_read_by_their_types_and_the_first_may_be_bare() -> None:
    assert made("drawn:0.5").given == (0.5, 3, 10, "best", "", None)
    text = "drawn:window=7,share=1,how=mean,name=a b,inner=plain"
    assert made(text).given == (1.0, 3, 7, "mean", "a b", "plain")
    assert made("scheduled:1:0:100") == 0.5
    assert made("scheduled:epsilon=0.25") == 0.25
    assert made("bare") == "bare"


def several(
    least: np.floating[Any] | np.integer[Any] | np.ndarray[Any, Any] | None = None,
    most: SupportsFloat | None = None,
    count: int | str = 1,
    loud: bool = False,
) -> tuple[Any, ...]:
    return least, most, count, loud


def test_an_option_of_several_types_is_read_by_the_first_that_can() -> None:
    text = "several:least=-1,most=0.5,count=many,loud=true"
    assert build("thing", text, {"several": several}) == (-1.0, 0.5, "many", True)
    assert build("thing", "several:count=3", {"several": several})[2:] == (3, False)
    for word, says in (("least=low", "a number or a whole number"), ("loud=yes", "true, false")):
        with pytest.raises(UserError, match=says):
            build("thing", f"several:{word}", {"several": several})


def test_what_is_in_no_table_may_come_from_a_module() -> None:
    assert made(f"{__name__}:scheduled:0:1:100") == 0.5
    assert made(f"{__name__}:bare") == "bare"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "choose from bare, drawn, scheduled"),
        ("drwan:0.5", "choose from bare, drawn, scheduled"),
        ("drawn", "share"),
        ("drawn:share=", "number"),
        ("drawn:1.5", "from 0 to 1"),
        ("drawn:nan", "number"),
        ("drawn:1e999", "number"),
        ("drawn:0.5,window=7", "0.5"),
        ("drawn:share=0.5,share=0.6", "twice"),
        ("drawn:share=0.5,arms=9", "arms"),
        ("drawn:share=0.5,window=0", "from 1 to 100"),
        ("drawn:share=0.5,window=7.5", "whole number"),
        (f"drawn:share=0.5,window=1{'0' * 400}", "whole number"),
        (f"drawn:share=0.5,window=1{'0' * 5000}", "whole number"),
        ("drawn:share=0.5,how=worst", "best, mean"),
        ("drawn:share=0.5,inner=fancy", "plain"),
        ("scheduled:1:2:10", "from 0 to 1"),
        ("bare:1", "none"),
        (f"{__name__}:missing", "missing"),
        (f"{__name__}:NOTHING", "NOTHING"),
        (f"{__name__}:unannotated", "weight"),
        ("no_such_module:thing", "no module 'no_such_module'.*choose from bare"),
        ("tests.no_such_module:thing", "no module 'tests.no_such_module'"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        made(text)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise RuntimeError('on strike')", "on strike"),
        ("import a_package_that_is_not_there", "a_package_that_is_not_there"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(
    code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stricken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"stricken.*{says}"):
        load_object("thing", "stricken:thing")
