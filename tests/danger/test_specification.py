"""Rules and specifications: what they predict, and JSON there and back."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from saferl.danger.specification import Episode, Evidence, Rule, Specification, Step, specification_from_json


@dataclass(frozen=True)
class ActionIs:
    action: int

    @property
    def name(self):
        return f"action({self.action})"

    @property
    def phrase(self):
        return f"the action is {self.action}"

    def holds(self, step):
        return step.action == self.action


@dataclass(frozen=True)
class Late:
    name: str = "late"
    phrase: str = "it is late"

    def holds(self, step):
        return step.index > 3


LITERALS = {each.name: each for each in (ActionIs(0), ActionIs(1), Late())}


def step(action, index=0):
    board = np.zeros((2, 2), np.uint8)
    return Step(before=board, action=action, after=board, reward=-1.0, index=index, first=board)


def test_a_step_is_predicted_dangerous_if_all_literals_of_one_rule_hold():
    both = Specification((Rule((ActionIs(0),)), Rule((ActionIs(1), Late()))))
    assert [both.predicts(step(*each)) for each in ((0, 0), (1, 0), (1, 5), (2, 5))] == [True, False, True, False]


def test_no_rule_predicts_nothing():
    assert not Specification(text="be careful").predicts(step(0))


def test_json_gives_the_specification_back():
    evidence = Evidence(warned=3, matched=4, warned_elsewhere=1, elsewhere=9, posterior=0.75)
    one = Specification((Rule((ActionIs(1), Late()), evidence), Rule((ActionIs(0),))), "two rules")
    assert specification_from_json(json.loads(json.dumps(one.as_json())), LITERALS) == one


def test_the_name_of_a_rule_does_not_depend_on_the_order_of_its_literals():
    assert Rule((Late(), ActionIs(1))).name == Rule((ActionIs(1), Late())).name == "action(1) & late"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"literals": ["sings"]}], "no literal named 'sings'"),
        ([{"literals": []}], "rule 1 must be like"),
        (["late"], "rule 1 must be like"),
        ([{"literals": ["late"], "evidence": {"warned": 1}}], "rule 1: evidence needs warned, matched"),
        ([{"literals": ["late"]}] * 11, "at most 10 rules; got 11"),
    ],
)
def test_rules_that_can_not_be_read_are_refused_in_one_line(rules, message):
    with pytest.raises(ValueError, match=message) as error:
        specification_from_json({"rules": rules}, LITERALS)
    assert "\n" not in str(error.value)


def test_the_return_of_an_episode_is_the_sum_of_its_rewards():
    assert Episode((step(0), step(1), step(2)), None).total_reward == -3
