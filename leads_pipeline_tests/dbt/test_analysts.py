"""docs/analysts.md: each question's statement runs as an analyst and answers what is so."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from leads_pipeline.storage.roles import ANALYST_ROLE

PAGE = Path(__file__).parents[2] / "docs/analysts.md"
QUESTIONS = {
    int(number): statement
    for number, statement in re.findall(
        r"^## (\d+)\. .*?^```sql\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
}

# Of the first row of each answer, over the rows of ``filled``.
ANSWERS: dict[int, dict[str, Any]] = {
    1: {"source": "website", "captured": 10, "rejected": 2, "on_their_way": 1, "delivered": 7, "need_a_person": 0},
    2: {"destination": "hubspot", "waiting": 0, "dead_letters_open": 1},
    3: {
        "source": "website",
        "known_contact_rate": Decimal("0.125"),
        "opportunity_rate": Decimal("0.25"),
        "bounce_rate": 0,
    },
    4: {"source": "website", "spent": 200, "opportunities": 2, "cost_per_opportunity": 100, "won_amount": 500},
    5: {"lane": "real_time", "destination": "hubspot", "leads": 12, "p95_seconds_of_the_worst_hour": 40},
    6: {"slo": "delivered_in_a_day", "days_broken": 0, "days_burning": 1, "budget_left_now": 0.4},
    7: {"stage": "delivered", "capacity_per_minute": 9, "hour_of_day": 10},
    8: {
        "rescued_leads": 2,
        "from_limits": 1,
        "reposts_recognised": 3,
        "duplicates_merged": 1,
        "cost_of_loss_avoided": 40,
        "currency": "USD",
    },
    9: {"decider": "rule:same_email", "brought_together": 2, "taken_back": 1, "taken_back_rate": Decimal("0.5")},
    10: {"contacts": 8, "with_email": 8, "current_in_every_crm": 7},
}


def test_there_are_ten_questions_and_each_has_an_answer_here():
    assert sorted(QUESTIONS) == sorted(ANSWERS) == list(range(1, 11))


@pytest.mark.parametrize("number", sorted(ANSWERS))
def test_an_analyst_gets_the_answer(marts, number):
    answer = marts.rows(QUESTIONS[number], role=ANALYST_ROLE)[0]
    assert {name: answer[name] for name in ANSWERS[number]} == ANSWERS[number]


def test_every_mart_of_days_is_asked_about():
    asked = " ".join(QUESTIONS.values())
    named = set(re.findall(r"marts\.(\w+)", asked))
    assert named >= {"lead_funnel", "source_quality", "sync_health", "slo_daily", "capacity_heat_map", "loss_avoided"}
    assert named >= {"identity_quality", "stage_hours", "contacts_for_analysts"}
