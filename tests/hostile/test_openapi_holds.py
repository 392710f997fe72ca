"""Requests made from our own OpenAPI document: every answer is one that the document tells of."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.process.process_service import started

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_every_answer_is_one_that_the_document_tells_of(tmp_path, bearer):
    schema = schemathesis.openapi.from_path(DOCUMENT)
    operations = [found.ok() for found in schema.get_all_operations()]
    cases = st.one_of([operation.as_strategy() for operation in operations])

    with started(tmp_path) as service:

        @settings(
            max_examples=60,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases)
        def attack(case: schemathesis.Case) -> None:
            response = case.call(base_url=service.url(""), headers=bearer, timeout=40)

            assert response.status_code < 500
            told = case.operation.definition.raw["responses"]
            assert str(response.status_code) in told, case.operation.label

        attack()
        assert "Traceback" not in service.output

    assert len(operations) >= 8
