"""Policy distillation in deep reinforcement learning: large teachers into small, fast students."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.public import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """Load what is asked for: ``tutelage --help`` does not wait for PyTorch."""
        from importlib import import_module
        from importlib.util import find_spec

        if name == "__version__":
            from importlib.metadata import version

            return version(__name__)
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        if not name.startswith("__") or name == "__all__":
            public = import_module(f"{__name__}.public")
            if name in (*public.__all__, "__all__"):
                globals()[name] = getattr(public, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        from tutelage.public import __all__ as names

        return sorted([*globals(), *names])
