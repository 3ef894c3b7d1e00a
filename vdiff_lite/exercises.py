"""The check of an exercise: it tries an answer and says what is right and what is off."""

from collections.abc import Callable, Mapping


def check(answer: object, claims: Mapping[str, Callable[[object], object]]) -> bool:
    """Try an answer and print one line for each claim. Returns whether all of them hold.

    claims: {what must hold: a function of the answer that is true where it does}. An answer of None, or a
    function that still returns None for every claim, is said to be waiting; an error counts against its claim
    and is printed with it.
    """
    seen = []
    watched = answer
    if callable(answer):
        def watched(*args, **kwargs):
            seen.append(answer(*args, **kwargs))
            return seen[-1]

    results = {claim: _outcome(test, watched) for claim, test in claims.items()}
    if answer is None or (seen and all(x is None for x in seen)):
        print("Not done yet: fill in the cell above, then run this one again.")
        return False
    for claim, (holds, why) in results.items():
        print(f"{'right' if holds else 'off  '}  {claim}{why}")
    return all(holds for holds, _ in results.values())


def _outcome(test: Callable, answer: object) -> tuple[bool, str]:
    try:
        return bool(test(answer)), ""
    except Exception as error:  # of the reader's code: said, not raised
        return False, f"  ({type(error).__name__}: {error})"
