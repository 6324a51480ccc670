"""The sentences in which the scenes' instructions are given.

Every instruction has eight wordings to train with and two to test with, whose words
mostly occur in training but in other sentences.
"""

from __future__ import annotations

from collections.abc import Sequence

_SIDE = (
    "move the {} to the {side}",
    "put the {} further to the {side}",
    "pick up the {} and place it to the {side}",
    "shift the {} {side}",
    "grasp the {} and move it {side}",
    "carry the {} to the {side}",
    "take the {} and set it down on the {side}",
    "please move the {} {side}",
    "bring the {} over to the {side}",
    "I want the {} further {side}",
)
_TEMPLATES = {
    ("open", "drawer"): (
        "open the drawer",
        "pull the drawer open",
        "pull out the drawer",
        "slide the drawer out",
        "get the drawer open",
        "grab the handle and open the drawer",
        "take the handle and pull the drawer out",
        "please open the drawer",
        "draw out the drawer by its handle",
        "I want the drawer open",
    ),
    ("close", "drawer"): (
        "close the drawer",
        "push the drawer shut",
        "push in the drawer",
        "slide the drawer in",
        "get the drawer closed",
        "grab the handle and close the drawer",
        "take the handle and push the drawer in",
        "please close the drawer",
        "shut the drawer by its handle",
        "I want the drawer closed",
    ),
    ("open", "window"): (
        "open the window",
        "slide the window open",
        "get the window open",
        "slide the window to the open side",
        "grab the window and open it",
        "take the window handle and slide it open",
        "let some air in through the window",
        "please open the window",
        "move the window handle until it is open",
        "I want the window open",
    ),
    ("close", "window"): (
        "close the window",
        "slide the window shut",
        "get the window closed",
        "slide the window to the closed side",
        "grab the window and close it",
        "take the window handle and slide it shut",
        "keep the air out and shut the window",
        "please close the window",
        "move the window handle until it is closed",
        "I want the window closed",
    ),
    "lock": (
        "lock the {}",
        "press the button to lock the {}",
        "push the {} button so that it locks",
        "make sure the {} is locked",
        "use the {} button to lock it",
        "block the {}",
        "turn the lock of the {} on",
        "please lock the {}",
        "hit the button and block the {}",
        "I want the {} locked",
    ),
    "unlock": (
        "unlock the {}",
        "press the button to unlock the {}",
        "push the {} button so that it unlocks",
        "make sure the {} is unlocked",
        "use the {} button to unlock it",
        "release the {}",
        "turn the lock of the {} off",
        "please unlock the {}",
        "hit the button and release the {}",
        "I want the {} unlocked",
    ),
    "put": (
        "put the {} in the drawer",
        "place the {} in the drawer",
        "pick up the {} and put it in the drawer",
        "store the {} in the drawer",
        "grasp the {} and drop it into the drawer",
        "move the {} into the drawer",
        "take the {} to the drawer and let go of it there",
        "please put the {} in the drawer",
        "lay the {} into the drawer",
        "I want the {} in the drawer",
    ),
    "left": _SIDE,
    "right": _SIDE,
    "stack": (
        "stack the {} on the {onto}",
        "put the {} on top of the {onto}",
        "pick up the {} and place it on the {onto}",
        "set the {} down on the {onto}",
        "grasp the {} and stack it on top of the {onto}",
        "build a tower with the {} on the {onto}",
        "lift the {} onto the {onto}",
        "please stack the {} on the {onto}",
        "carry the {} over and leave it on top of the {onto}",
        "I want the {} on the {onto}",
    ),
}
_JOIN = (
    ("{0} and then {1}", "{0}, {1} and then {2}"),
    ("first {0}, then {1}", "first {0}, then {1}, then {2}"),
    ("{0}; after that {1}", "{0}; after that {1} and {2}"),
    ("{0} and {1}", "{0} and {1} and {2}"),
    ("{0}, next {1}", "{0}, next {1}, next {2}"),
    ("{0} before you {1}", "{0} before you {1} and finally {2}"),
    ("to begin with {0}, and finally {1}", "to begin with {0}, {1}, and finally {2}"),
    ("{0}, then {1}", "{0}, then {1}, then {2}"),
    ("begin: {0}; next: {1}", "begin: {0}; next: {1}; finally: {2}"),
    ("{0}, and after that {1}", "{0}, then {1}, and after that {2}"),
)
HELD_OUT = 2
"""The last sentences of every instruction, which training never sees."""


Sentences = tuple[tuple[str, ...], tuple[str, ...]]
"""To train with, and to test with."""


def single(kind: str, target: str, onto: str) -> Sentences:
    """Sentences of one instruction, to do `kind` with `target` ("red cube", …)."""
    templates = _TEMPLATES[(kind, target) if (kind, target) in _TEMPLATES else kind]
    return _split([t.format(target, side=kind, onto=onto) for t in templates])


def compound(parts: Sequence[tuple[str, ...]]) -> Sentences:
    """Sentences to train and to test with, of several instructions each.

    Args:
      parts: training wordings of each, in order; sentence k joins their wordings
        k, k + 1, …, those meant for testing as well.
    """
    joined = []
    for number, join in enumerate(_JOIN):
        picked = [w[(number + i) % len(w)] for i, w in enumerate(parts)]
        joined.append(join[len(parts) - 2].format(*picked))
    return _split(joined)


def _split(sentences: Sequence[str]) -> Sentences:
    return tuple(sentences[:-HELD_OUT]), tuple(sentences[-HELD_OUT:])
