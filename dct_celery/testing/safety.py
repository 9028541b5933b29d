"""assert_concurrent_safety: is what threads do together what they could have done in turn?"""

from __future__ import annotations

import functools
import itertools
import math
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dct_celery.errors import UsageError
from dct_celery.testing.calls import (
    called,
    check_count,
    check_function,
    check_seconds,
    check_seed,
)
from dct_celery.testing.databases import Databases
from dct_celery.testing.interleaving import (
    Abandoned,
    AtRandom,
    Choice,
    InOrder,
    Interleaving,
    Lockstep,
    Once,
)
from dct_celery.testing.outcomes import Outcome, Volatile, differences
from dct_celery.testing.shared import SharedState
from dct_celery.testing.values import columns, flat

#: unittest leaves our frames out of tracebacks.
__unittest = True

Function = Callable[[], object]
#: How often another thread goes on, from round to round, after those in lockstep.
_PROBABILITIES = (0.5, 0.2, 0.8, 0.05)
#: Rounds without queries take milliseconds.
_MORE_WITHOUT_QUERIES = 5
#: How often the orders are run once more before a round is said to be wrong.
_RUNS_IN_DOUBT = 2
#: Of six different functions.
_MOST_ORDERS = 720
_SHOWN_STEPS = 24
_HERE = "assert_concurrent_safety"
_SHOWN_COLUMNS = 160
_SHOWN_DIFFERENCES = 8


def assert_concurrent_safety(
    test_func: Function | Sequence[Function],
    max_workers: int | None = None,
    iterations: int = 10,
    *,
    seed: int | None = None,
    timeout: float = 10.0,
    setup: Function | None = None,
    invariant: Function | None = None,
    refused: type[Exception] | tuple[type[Exception], ...] | Callable[[Any], bool] = (),
    ignore: Sequence[str] = (),
) -> None:
    """Fails unless calls at the same time come to what the same calls come to in some order, one
    after the other.

    Compared are what the calls return or raise, the rows of every table that they write to, globals
    and class attributes of the project's modules that they run through, what they close over,
    local-memory caches and mails. Everything is as before afterwards.

    test_func: called without arguments, in every thread; or up to six different functions, which
        the threads take in turn. May be `async`.
    max_workers: threads; by default 4, or as many as there are functions.
    iterations: rounds; in each one every thread calls its function once, from the same start. Of
        functions that make no queries there are five times as many.
    seed: says who goes on when; by default another one each time, and it is in the message.
    timeout: seconds in which no thread goes on, until they are said to wait for each other.
    setup: called before each round, for state that is not put back by itself (files, services).
    invariant: called after each round; raises AssertionError, or returns False, if it is broken.
    refused: exceptions by which a call says that it did nothing, or a function of what a call
        returned or raised that says so. Those calls need not have a place in the order.
    ignore: names, with `*`, of what may differ, as the message writes them.

    Raises AssertionError, which names what differs, the interleaving and its seed; UsageError if
    the arguments are wrong, or the test runs in a transaction that other connections cannot see.
    """
    functions = _functions(test_func, max_workers)
    check_count(f"{_HERE}: iterations", iterations, 1)
    check_seconds(f"{_HERE}: timeout", timeout)
    check_seed(f"{_HERE}: seed", seed)
    for name, function in (("setup", setup), ("invariant", invariant)):
        if function is not None:
            check_function(f"{_HERE}: {name}", function)
    _check_refused(refused)
    ignored = _ignored(ignore)
    seed = secrets.randbelow(2**31) if seed is None else seed
    with Databases(_HERE) as databases:
        check = _Check(functions, databases, seed, timeout, setup, invariant, refused, ignored)
        try:
            problem = check.run(iterations)
        finally:
            check.put_back()
    if problem:
        __tracebackhide__ = True
        raise AssertionError(problem) from check.cause


def _functions(given: Function | Sequence[Function], workers: int | None) -> list[Function]:
    """One for each thread."""
    functions: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    if not functions:
        raise UsageError(f"{_HERE}: {given!r} is no function: give one, or a list")
    for function in functions:
        check_function(_HERE, function, "give one, or a list")
    count = max(4 if len(functions) == 1 else 2, len(functions))
    if workers is not None:
        check_count(f"{_HERE}: max_workers", workers, max(2, len(functions)))
        count = workers
    threads = list(itertools.islice(itertools.cycle(functions), count))
    orders = math.factorial(count)
    for times in Counter(map(functions.index, threads)).values():
        orders //= math.factorial(times)
    if orders > _MOST_ORDERS:
        raise UsageError(
            f"{_HERE}: {len(functions)} functions in {count} threads can come "
            f"in {orders} orders, of which at most {_MOST_ORDERS} are tried: give fewer"
        )
    return threads


def _check_refused(refused: Any) -> None:
    if callable(refused) and not isinstance(refused, type):
        return
    classes = refused if isinstance(refused, tuple) else (refused,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
        raise UsageError(
            f"{_HERE}: refused={refused!r}: give an exception class, a tuple of them, or a function"
        )


def _ignored(ignore: Any) -> list[str]:
    names = [ignore] if isinstance(ignore, str) else ignore
    fits = isinstance(names, (list, tuple, set, frozenset))
    if not fits or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{_HERE}: ignore={ignore!r}: give a list of names")
    return list(names)


@dataclass(frozen=True)
class _Call:
    """What one thread's call came to."""

    function: int
    value: Any = None
    record: tuple[tuple[str, str], ...] = ()
    error: BaseException | None = None


@dataclass(frozen=True)
class _Round:
    """What one run came to."""

    calls: tuple[_Call, ...]
    outcome: Outcome
    stuck: list[str]
    interleaving: Interleaving


class _WrongAlone(Exception):
    """What is wrong is wrong without concurrency, too."""


class _Check:
    """One call of assert_concurrent_safety."""

    def __init__(
        self,
        functions: list[Function],
        databases: Databases,
        seed: int,
        timeout: float,
        setup: Function | None,
        invariant: Function | None,
        refused: Any,
        ignore: Sequence[str],
    ) -> None:
        self._functions = functions
        #: Threads with the same function have the same number.
        self._kinds = [functions.index(function) for function in functions]
        self._names = _names(functions)
        self._databases = databases
        self._shared = SharedState(iter(functions))
        self._seed = seed
        self._timeout = timeout
        self._setup = setup
        self._invariant = invariant
        self._refused = refused
        self._volatile = Volatile(ignore)
        self._serial: dict[tuple[int, ...], _Round] = {}
        self._runs = itertools.count()
        #: What the test's own code raised without concurrency.
        self.cause: BaseException | None = None
        #: Of connections, in threads.
        self._failures: list[Exception] = []
        #: Points of the last round, and those before queries.
        self._points = self._queries = 0
        #: Seconds of the longest step, without what the first run does once.
        self._longest = 0.0

    def run(self, iterations: int) -> str:
        """Of the first round that no order explains: what is wrong; else ""."""
        everybody = tuple(self._kinds)
        try:
            self._check_alone(self._in_order(everybody))
            self._in_order(everybody, again=True)
            rounds = iterations * (1 if self._queries else _MORE_WITHOUT_QUERIES)
            for number, choice in enumerate(itertools.islice(self._choices(), rounds), start=1):
                seen = self._round(everybody, choice)
                if problem := self._problem(seen):
                    return self._message(problem, seen, number, rounds)
        except _WrongAlone as error:
            return str(error)
        return ""

    def put_back(self) -> None:
        self._shared.put_back()
        self._databases.put_back()

    # -- runs ----------------------------------------------------------------------------------

    def _choices(self) -> Iterator[Choice]:
        """Of the rounds. The first ones find what is found by all reading before any writes; then
        each second one stops one thread at one point, the others change threads often or seldom.
        """
        chance = random.Random(self._seed)
        threads = range(len(self._functions))
        if self._queries:
            yield Lockstep(chance.choice(threads), queries_only=True)
        yield Lockstep(chance.choice(threads), queries_only=False)
        for probability in itertools.cycle(_PROBABILITIES):
            queries_only = bool(self._queries) and chance.random() < 0.5
            most = (self._queries if queries_only else self._points) // len(threads)
            order = chance.sample(threads, len(threads))
            yield Once(order, chance.randint(1, max(1, most)), queries_only=queries_only)
            yield AtRandom(random.Random(chance.random()), probability)

    def _in_order(self, order: tuple[int, ...], *, again: bool = False) -> _Round:
        """What calls of these functions come to one after the other."""
        if order in self._serial and not again:
            return self._serial[order]
        seen = self._round(order, None)
        if seen.stuck:
            raise _WrongAlone(
                f"the calls do not end, one after the other: {seen.stuck[0]} "
                f"for {self._timeout:g} s; timeout= allows more"
            )
        if broken := self._broken():
            raise _WrongAlone(f"the invariant is broken without concurrency: {broken}")
        if order in self._serial:
            self._volatile.learn(self._serial[order].outcome, seen.outcome)
            self._longest = max(self._longest, seen.interleaving.longest)
        return self._serial.setdefault(order, seen)

    def _check_alone(self, seen: _Round) -> None:
        """The first call must not fail, nor any for an assertion of the test."""
        for place, call in enumerate(seen.calls):
            if call.error is None:
                continue
            if not isinstance(call.error, Exception):  # pytest.fail(), pytest.skip(), sys.exit()
                raise call.error
            if not place or isinstance(call.error, AssertionError):
                self.cause = call.error
                raise _WrongAlone(
                    f"{self._names[call.function]} fails without concurrency: {_said(call.error)}"
                )

    def _round(self, kinds: tuple[int, ...], choice: Choice | None) -> _Round:
        """A thread for each function; one after the other if there is no choice."""
        self._shared.put_back()
        self._databases.start(next(self._runs))
        if self._setup is not None:
            self._in_a_thread(self._setup)
        calls: dict[int, _Call] = {}
        interleaving = Interleaving(
            len(kinds),
            choice or InOrder(range(len(kinds))),
            self._timeout,
            expected=self._longest,
            overtake=choice is not None,
            code_points=choice is not None,
            started=self._shared.started if choice is None else None,
        )
        bodies = [
            functools.partial(self._body, interleaving, lane, kind, calls)
            for lane, kind in enumerate(kinds)
        ]
        stuck = interleaving.run(bodies)
        self._points, self._queries = interleaving.points, interleaving.queries
        if stuck:
            self._databases.kill()
            interleaving.join(0.5)
        if self._databases.refused:
            raise UsageError(self._databases.refused[0])
        if self._failures:
            raise self._failures[0]
        outcome = Outcome()
        done = tuple(calls[lane] for lane in range(len(kinds)) if lane in calls)
        for call in done:
            if not self._is_refused(call):
                outcome.add_result(self._names[call.function], dict(call.record))
        if not stuck:
            outcome.add_shared(self._shared.first, self._shared.flat())
            for table, before, now in self._databases.written():
                outcome.add_table(table, before, now)
        return _Round(done, outcome, stuck, interleaving)

    def _body(
        self,
        interleaving: Interleaving,
        lane: int,
        kind: int,
        calls: dict[int, _Call],
        ready: Callable[[], None],
    ) -> None:
        """In a thread."""

        def query(sql: str) -> None:
            interleaving.point(lane, lambda: " ".join(sql.split()), query=True)

        try:
            with self._databases.connect(query):
                ready()
                calls[lane] = self._call(kind)
        except Abandoned:
            pass
        except Exception as error:  # of a connection
            self._failures.append(error)

    def _call(self, kind: int) -> _Call:
        try:
            value = called(self._functions[kind])
            record = columns(flat(value))
        except Abandoned:
            raise
        except BaseException as error:
            error_name = f"{type(error).__module__}.{type(error).__qualname__}"
            return _Call(kind, error, (("raised", error_name.removeprefix("builtins.")),), error)
        return _Call(kind, value, tuple(record.items()))

    def _in_a_thread(self, function: Function) -> object:
        """Its result, with connections of its own to what the calls use."""
        result: list[object] = []
        failed: list[BaseException] = []

        def body(ready: Callable[[], None]) -> None:
            try:
                with self._databases.connect(lambda _: None):
                    ready()
                    result.append(called(function))
            except BaseException as error:
                failed.append(error)

        alone = Interleaving(1, InOrder([0]), self._timeout, overtake=False, code_points=False)
        if stuck := alone.run([body]):
            raise _WrongAlone(f"{_name(function)} does not end: {stuck[0]}")
        if self._databases.refused:
            raise UsageError(self._databases.refused[0])
        if failed:
            raise failed[0]
        return result[0]

    # -- verdicts ------------------------------------------------------------------------------

    def _is_refused(self, call: _Call) -> bool:
        if isinstance(self._refused, (type, tuple)):
            return call.error is not None and isinstance(call.error, self._refused)
        return bool(self._refused(call.value))

    def _problem(self, seen: _Round) -> list[str]:
        """Why this round is wrong, in lines; [] if it is not."""
        if seen.stuck:
            return [
                f"a deadlock: {len(seen.stuck)} of them did not go on for {self._timeout:g} s",
                *seen.stuck,
            ]
        if broken := self._broken():
            return [f"the invariant is broken: {broken}"]
        counted = [call.function for call in seen.calls if not self._is_refused(call)]
        orders = list(_orders(Counter(counted)))
        if self._explained(seen, orders):
            return []
        # What depends on a clock that had not moved between the first two runs has other values
        # now; what depends on chance has it with each run.
        for _ in range(_RUNS_IN_DOUBT):
            for order in orders:
                self._in_order(order, again=True)
            if self._explained(seen, orders):
                return []
        first = self._in_order(orders[0]).outcome
        raised = dict.fromkeys(
            f"{self._names[call.function]} raised {_said(call.error)}"
            for call in seen.calls
            if call.error is not None and not self._is_refused(call)
        )
        deadlocks = [f"deadlock: {line}" for line in raised if "deadlock" in line.lower()]
        others = [line for line in raised if "deadlock" not in line.lower()]
        return [*deadlocks, *differences(seen.outcome, first, self._volatile), *others]

    def _explained(self, seen: _Round, orders: list[tuple[int, ...]]) -> bool:
        return any(
            not any(differences(seen.outcome, self._in_order(order).outcome, self._volatile))
            for order in orders
        )

    def _broken(self) -> str:
        """What the invariant says; "" if it holds."""
        if self._invariant is None:
            return ""
        try:
            holds = self._in_a_thread(self._invariant)
        except AssertionError as error:
            return str(error) or "AssertionError"
        return f"{_name(self._invariant)} returned False" if holds is False else ""

    def _message(self, problem: list[str], seen: _Round, number: int, rounds: int) -> str:
        more = len(problem) - _SHOWN_DIFFERENCES
        shown = problem[:_SHOWN_DIFFERENCES] + [f"and {more} more"] * (more > 0)
        what = self._names[0] if len(set(self._kinds)) == 1 else ", ".join(self._names.values())
        steps = [
            str(list(group)[-1])
            for _, group in itertools.groupby(
                seen.interleaving.steps, key=lambda step: (step.lane, step.text.split("  [")[0])
            )
        ]
        return "\n".join(
            [
                f"{what} in {len(self._functions)} threads: {shown[0]}",
                *(f"  {line}" for line in shown[1:]),
                f"Again: assert_concurrent_safety(…, seed={self._seed}), in round {number} of "
                f"{rounds}. The last steps:",
                *(f"  {line[:_SHOWN_COLUMNS]}" for line in steps[-_SHOWN_STEPS:]),
            ]
        )


def _orders(functions: Counter[int]) -> Iterator[tuple[int, ...]]:
    """All orders of as many calls of each function; calls of one function are alike."""
    if not functions.total():
        yield ()
    for function in sorted(functions):
        if functions[function]:
            for rest in _orders(functions - Counter([function])):
                yield (function, *rest)


def _names(functions: Sequence[Function]) -> dict[int, str]:
    """Of each different function, which its number in case two have the same."""
    names: dict[int, str] = {}
    for number, function in enumerate(functions):
        if functions.index(function) == number:
            given = _name(function)
            names[number] = given if given not in names.values() else f"{given} ({number + 1})"
    return names


def _name(function: Function) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return f"{getattr(inner, '__name__', type(inner).__name__)}()"


def _said(error: BaseException | None) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
