"""Functions decorated with `gpucost.stage`: every call is a span, for as long as it really runs.

Imported only when a function is decorated in a recorded program.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from gpucost import _stage
from gpucost._stage import stage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

_GENERATOR, _COROUTINE, _ITERABLE_COROUTINE, _ASYNC_GENERATOR = 0x20, 0x80, 0x100, 0x200  # code flags, as in `inspect`


def decorated(function: Any, name: str, attributes: dict[str, object]) -> Any:
    """The function as it was, of the same kind (plain, coroutine, generator, async generator), with a span around each call."""
    flags = _code_flags(function)
    if flags & _ASYNC_GENERATOR:
        make = _async_generator
    elif flags & (_COROUTINE | _ITERABLE_COROUTINE):
        make = _coroutine
    elif flags & _GENERATOR:
        make = _generator
    else:
        make = _plain
    return wraps(function)(make(function, name, attributes))


def _code_flags(function: Any) -> int:
    """What kind of function it is, looking through partials, methods and callable objects (the `inspect` module is slow to import)."""
    while isinstance(function, partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return int(getattr(code, "co_flags", 0))


def _plain(function: Any, name: str, attributes: dict[str, object]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with stage(name, **attributes):
            return function(*args, **kwargs)

    return wrapper


def _coroutine(function: Any, name: str, attributes: dict[str, object]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with stage(name, **attributes):
            return await function(*args, **kwargs)

    return wrapper


def _generator(function: Any, name: str, attributes: dict[str, object]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator = function(*args, **kwargs)
        visit = _Visit(name, attributes)
        step, argument = generator.send, None
        try:
            while True:
                with visit:
                    item = step(argument)
                try:
                    step, argument = generator.send, (yield item)
                except GeneratorExit:
                    with visit:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 (whatever is thrown in is passed on)
                    step, argument = generator.throw, error
        except StopIteration as stop:
            visit.end()
            return stop.value
        except BaseException as error:
            visit.end(error)
            raise

    return wrapper


def _async_generator(function: Any, name: str, attributes: dict[str, object]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        visit = _Visit(name, attributes)
        step, argument = generator.asend, None
        try:
            while True:
                with visit:
                    item = await step(argument)
                try:
                    step, argument = generator.asend, (yield item)
                except GeneratorExit:
                    with visit:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 (whatever is thrown in is passed on)
                    step, argument = generator.athrow, error
        except StopAsyncIteration:
            visit.end()
        except BaseException as error:
            visit.end(error)
            raise

    return wrapper


class _Visit:
    """The span of a generator: left at every `yield` and entered again after it, so that what its consumer opens in between does not nest in it.

    Each step may run in another context than the one before.
    """

    def __init__(self, name: str, attributes: dict[str, object]) -> None:
        self._stage = stage(name, **attributes)
        self._entered = False
        self._inside: Any = None
        self._outside: Any = None

    def __enter__(self) -> None:
        self._outside = _stage.current.get()
        if self._entered:
            _stage.current.set(self._inside)
        else:
            self._entered = True
            self._stage.__enter__()

    def __exit__(self, *_: object) -> None:
        self._inside = _stage.current.get()
        _stage.current.set(self._outside)

    def end(self, error: BaseException | None = None) -> None:
        """The generator has ended."""
        self._stage.__exit__(None if error is None else type(error), error, None)
