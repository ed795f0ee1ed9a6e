"""Blackjack, many hands at once, gives hand for hand what Gymnasium's environment gives."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workloads.blackjack import CARDS_OF_HAND, greedy_policy, returns_of, rewards_of, shuffled_decks

STICK_AT_17 = np.broadcast_to((np.arange(32) < 17)[:, np.newaxis, np.newaxis], (32, 11, 2)).astype(np.int64)
ALWAYS_HIT = np.ones((32, 11, 2), np.int64)


class StackedDeck:
    """Deals what it is given; suits, which Gymnasium draws as well, do not matter."""

    def __init__(self, cards: list[int]) -> None:
        self.cards = iter(cards)
        self.dealt = 0

    def choice(self, options: list[Any]) -> Any:
        if not isinstance(options[0], int):
            return options[0]
        self.dealt += 1
        return next(self.cards)


def reward_of(policy: np.ndarray, cards: list[int]) -> tuple[float, int]:
    """What Gymnasium pays for a hand with these cards, and how many of them it dealt."""
    env = gymnasium.make("Blackjack-v1", disable_env_checker=True)
    deck = StackedDeck(cards)
    env.unwrapped.np_random = deck
    state, _ = env.reset()
    ended = False
    while not ended:
        state, reward, ended, _, _ = env.step(int(policy[state]))
    return float(reward), deck.dealt


@given(
    policy=arrays(np.int64, (32, 11, 2), elements=st.integers(0, 1)),
    decks=arrays(np.int64, (3, CARDS_OF_HAND), elements=st.integers(1, 10)),
)
def test_every_hand_pays_what_gymnasium_pays(policy, decks):
    paid = [reward_of(policy, cards)[0] for cards in decks.tolist()]
    assert rewards_of(policy, decks).tolist() == paid


@given(
    policy=arrays(np.int64, (32, 11, 2), elements=st.integers(0, 1)),
    cards=st.lists(st.integers(1, 2), min_size=CARDS_OF_HAND, max_size=CARDS_OF_HAND),
)
def test_low_cards_make_long_hands_that_pay_the_same(policy, cards):
    paid, dealt = reward_of(policy, cards)
    assert rewards_of(policy, np.array([cards])).tolist() == [paid]
    assert dealt < CARDS_OF_HAND


def test_a_natural_beats_21_of_three_cards_but_not_another_natural():
    hands = [[10, 5, 1, 10, 6], [10, 1, 1, 10, 2], [10, 5, 10, 6, 5, 6]]
    decks = np.array([[*cards, *[2] * (CARDS_OF_HAND - len(cards))] for cards in hands])
    assert rewards_of(STICK_AT_17, decks).tolist() == [1, 0, 0]


def test_a_natural_that_takes_a_card_is_none_any_more():
    hit_21 = np.zeros((32, 11, 2), np.int64)
    hit_21[21, :, 1] = 1
    cards = [10, 10, 1, 10, 5, *[2] * (CARDS_OF_HAND - 5)]
    assert reward_of(hit_21, cards)[0] == -1
    assert rewards_of(hit_21, np.array([cards])).tolist() == [-1]


def test_even_the_longest_hand_has_cards_enough():
    aces = np.ones((1, CARDS_OF_HAND), np.int64)
    assert rewards_of(ALWAYS_HIT, aces).tolist() == [-1]


def test_sticking_at_17_gives_what_is_known_of_it():
    assert abs(returns_of(STICK_AT_17, 100_000, np.random.default_rng(0)).mean() - -0.073) < 0.012


def test_cards_are_dealt_as_from_an_endless_deck():
    decks = shuffled_decks(10_000, np.random.default_rng(0))
    shares = np.bincount(decks.ravel(), minlength=11) / decks.size
    assert np.allclose(shares, [0, *[1 / 13] * 9, 4 / 13], atol=0.005)


def test_a_number_of_hands_that_is_no_multiple_of_a_batch_is_played_whole():
    assert returns_of(ALWAYS_HIT, 10_001, np.random.default_rng(0)).tolist() == [-1.0] * 10_001


def test_the_table_holds_what_is_chosen_for_each_state():
    policy = greedy_policy(lambda states: (states @ [10_000, 100, 1]).astype(np.int64))
    assert policy[12, 10, 1] == 121_001
