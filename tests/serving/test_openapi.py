"""Requests made at random from the OpenAPI document find nothing undocumented and no error of the server."""

from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from served import Running, running, served_by
from tenor.inference.predictor import Predictor
from tenor.serving.limits import ServerLimits

KEY = "0123456789abcdef-key"
FEW = settings(max_examples=80, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate])


@pytest.fixture(scope="module")
def locked(predictor: Predictor) -> Iterator[Running]:
    """A server with a key and small limits; that of the body is large, because it is looked at first."""
    with running(served_by(predictor, ServerLimits(texts=4, characters=400), key=KEY)) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("with_key", [True, False])
def test_requests_from_the_document(locked: Running, with_key: bool) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    schema = schemathesis.openapi.from_dict(locked.get("/openapi.json", **headers).body)
    schema.config.update(base_url=f"http://127.0.0.1:{locked.port}")
    statuses = Counter[int]()

    def check(case: schemathesis.Case) -> None:
        response = case.call(headers=headers if with_key else {})
        # A text that no schema can describe, such as one that the tokenizer does not know, is refused by right.
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        assert response.status_code < 500
        statuses[response.status_code] += 1

    for result in schema.get_all_operations():
        operation = result.ok()
        strategies = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)
        FEW(given(case=st.one_of(*strategies))(check))()
    assert set(statuses) >= ({200, 413, 422} if with_key else {200, 401})
