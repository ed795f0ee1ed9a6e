"""Blackjack played by a fixed policy, many hands at once: what evaluates what was learnt, outside any timed round.

The rules are those of Gymnasium's `Blackjack-v1` with `sab=True, natural=False`: cards from an endless deck, a
dealer who draws below 17, a reward of 1, 0 or -1 a hand, and a natural (an ace and a ten at once) that wins
unless the dealer has one as well. A policy is a table of actions (0 sticks, 1 hits), shape `(32, 11, 2)`: player's
sum, dealer's card, usable ace. A hand takes its cards from a row of `decks` in the order in which Gymnasium deals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["CARDS_OF_HAND", "greedy_policy", "returns_of", "rewards_of", "shuffled_decks"]

CARDS_OF_HAND = 40
"""More than a hand can take: two each, and with many aces at most 20 more for the player and 10 for the dealer."""
TABLE_SHAPE = (32, 11, 2)

_CARDS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10], np.int64)
_HANDS_AT_A_TIME = 10_000
_MOST = 21
_DEALER_STICKS_AT = 17


def greedy_policy(best_actions: Callable[[NDArray[np.float32]], NDArray[Any]]) -> NDArray[Any]:
    """The table of what `best_actions` chooses, given observations as Gymnasium shows them, shape `(N, 3)`."""
    states = np.indices(TABLE_SHAPE).reshape(len(TABLE_SHAPE), -1).T
    return best_actions(states.astype(np.float32)).reshape(TABLE_SHAPE)


def returns_of(policy: NDArray[Any], hands: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The rewards of so many hands, shape `(hands,)`; their mean has a standard error of 0.95 / sqrt(hands) at most."""
    starts = range(0, hands, _HANDS_AT_A_TIME)
    return np.concatenate(
        [rewards_of(policy, shuffled_decks(min(_HANDS_AT_A_TIME, hands - begin), rng)) for begin in starts]
    )


def shuffled_decks(hands: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cards for so many hands, shape `(hands, CARDS_OF_HAND)`; aces are 1, and so are faces 10."""
    return _CARDS[rng.integers(len(_CARDS), size=(hands, CARDS_OF_HAND))]


def rewards_of(policy: NDArray[Any], decks: NDArray[np.int64]) -> NDArray[np.float64]:
    """The reward of each hand that takes its cards from a row of `decks`, played by `policy`."""
    hands = np.arange(len(decks))
    dealer, player = _Sums(decks[:, 0:2]), _Sums(decks[:, 2:4])
    dealer_natural, natural = dealer.best() == _MOST, player.best() == _MOST
    taken = np.full(len(decks), 4)
    playing = hands
    while len(playing):
        state = player.best()[playing], decks[playing, 0], player.usable_ace()[playing].astype(np.int64)
        playing = playing[policy[state] == 1]
        natural[playing] = False
        player.add(playing, decks[playing, taken[playing]])
        taken[playing] += 1
        playing = playing[player.hard[playing] <= _MOST]
    bust = player.hard > _MOST
    drawing = hands[~bust]
    while len(drawing := drawing[dealer.best()[drawing] < _DEALER_STICKS_AT]):
        dealer.add(drawing, decks[drawing, taken[drawing]])
        taken[drawing] += 1
    scored = np.where(dealer.hard > _MOST, 0, dealer.best())
    rewards = np.sign(player.best() - scored).astype(np.float64)
    rewards[natural & ~dealer_natural] = 1
    rewards[bust] = -1
    return rewards


class _Sums:
    """The sums of many hands."""

    def __init__(self, cards: NDArray[np.int64]) -> None:
        """Begin with `cards`, shape `(hands, cards)`."""
        self.hard = cards.sum(axis=1)
        """Every ace counts 1."""
        self._has_ace = (cards == 1).any(axis=1)

    def add(self, hands: NDArray[np.int64], cards: NDArray[np.int64]) -> None:
        """Give each of `hands` a card."""
        self.hard[hands] += cards
        self._has_ace[hands] |= cards == 1

    def usable_ace(self) -> NDArray[np.bool_]:
        """Whether an ace can count 11."""
        usable: NDArray[np.bool_] = self._has_ace & (self.hard + 10 <= _MOST)
        return usable

    def best(self) -> NDArray[np.int64]:
        """The sum with an ace as 11 where that is usable."""
        sums: NDArray[np.int64] = self.hard + 10 * self.usable_ace()
        return sums
