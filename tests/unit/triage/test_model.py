"""The released model: it is what was released, computes what it should, and knows its limits."""

import hashlib
import json
import math
import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianzhen_edge.triage import bundle
from lianzhen_edge.triage.bundle import FOLDER, NAME, ModelRefused, Patient
from lianzhen_edge.triage.model import Model
from lianzhen_protocol.news2 import Consciousness, Vitals
from lianzhen_protocol.triage import Abstained, Silence

MODEL = Model()
WELL = Vitals(
    respiration=16,
    spo2=97,
    oxygen=False,
    systolic=120,
    pulse=70,
    consciousness=Consciousness.ALERT,
    temperature=37.0,
)
ILL = Vitals(
    respiration=30,
    spo2=90,
    oxygen=True,
    systolic=88,
    pulse=128,
    consciousness=Consciousness.VOICE,
    temperature=35.2,
)


def patient(vitals: Vitals = WELL, age: int | None = 70, pregnant: bool | None = None) -> Patient:
    return Patient(age_years=age, pregnant=pregnant, vitals=vitals)


def without(*signs: str, vitals: Vitals = WELL) -> Vitals:
    return msgspec.structs.replace(vitals, **dict.fromkeys(signs))


# -- what it says


def test_an_ill_patient_has_a_greater_probability_than_a_well_one_and_reasons() -> None:
    well, ill = MODEL.forecast(patient()), MODEL.forecast(patient(ILL))
    assert well.probability is not None
    assert ill.probability is not None
    assert well.probability < MODEL.bundle.threshold < ill.probability
    assert (well.raised, ill.raised) == (False, True)
    assert {factor.input for factor in ill.factors[:2]} == {"temperature", "pulse"}
    assert [f.log_odds for f in ill.factors] == sorted(f.log_odds for f in ill.factors)[::-1]
    assert (ill.model, ill.sha256) == (MODEL.bundle.title, MODEL.bundle.sha256)


@pytest.mark.parametrize(
    ("case", "silence"),
    [
        (patient(age=15), (Abstained.UNDER_16, "")),
        (patient(age=30, pregnant=True), (Abstained.PREGNANT, "")),
        (patient(age=None), (Abstained.AGE_UNKNOWN, "")),
        (patient(age=95), (Abstained.OUT_OF_RANGE, "age")),
        (patient(without("pulse")), (Abstained.SIGN_MISSING, "pulse")),
        (patient(without("consciousness")), (Abstained.SIGN_MISSING, "consciousness")),
        (patient(without("spo2", "oxygen", "respiration")), (Abstained.TOO_FEW_SIGNS, "")),
        (patient(Vitals()), (Abstained.TOO_FEW_SIGNS, "")),
        (patient(msgspec.structs.replace(WELL, pulse=200)), (Abstained.OUT_OF_RANGE, "pulse")),
        (patient(msgspec.structs.replace(WELL, spo2=70)), (Abstained.OUT_OF_RANGE, "spo2")),
    ],
)
def test_outside_its_population_it_abstains_and_says_why(
    case: Patient, silence: tuple[Abstained, str]
) -> None:
    found = MODEL.forecast(case)
    assert Silence(code=silence[0], about=silence[1]) in found.silence
    assert found.probability is None
    assert not found.raised


def test_two_gaps_are_filled_and_add_nothing() -> None:
    found = MODEL.forecast(patient(without("spo2", "respiration", vitals=ILL)))
    assert found.probability is not None
    assert {factor.input for factor in found.factors}.isdisjoint({"spo2", "respiration"})


rows = st.tuples(*(st.floats(i.low, i.high) for i in MODEL.bundle.inputs))


@settings(deadline=None)  # onnxruntime's first runs take their time
@given(rows)
def test_the_graph_computes_the_formula_of_its_bundle(row: tuple[float, ...]) -> None:
    """A second implementation, out of the weights as the bundle writes them."""
    values = {i.name: value for i, value in zip(MODEL.bundle.inputs, row, strict=True)}
    wanted = dict.fromkeys(values, 0.0)
    for hinge in MODEL.bundle.hinges:
        beyond = max(0.0, hinge.side * (values[hinge.input] - hinge.knot))
        wanted[hinge.input] += hinge.weight * beyond
    probability, parts = MODEL.compute(list(row))
    assert parts == pytest.approx(list(wanted.values()), abs=1e-4)
    log_odds = MODEL.bundle.start + sum(wanted.values())
    assert probability == pytest.approx(1 / (1 + math.exp(-log_odds)), abs=1e-4)


@settings(deadline=None)
@given(rows, st.sampled_from(range(8)), st.floats(0, 50))
def test_further_from_normal_never_lowers_the_probability(
    row: tuple[float, ...], at: int, step: float
) -> None:
    column = MODEL.bundle.inputs[at]
    far = list(row)
    far[at] += step if row[at] >= column.fill or column.name == "age" else -step
    assert MODEL.compute(far)[0] >= MODEL.compute(list(row))[0] - 1e-6


def test_no_hinge_pulls_the_wrong_way() -> None:
    assert all(hinge.weight >= 0 for hinge in MODEL.bundle.hinges)


# -- that it is the released one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "models"))


def refusal(folder: Path, released: str = bundle.RELEASED) -> str:
    with pytest.raises(ModelRefused) as error:
        Model(folder, released)
    return str(error.value)


def test_a_changed_bundle_is_refused(folder: Path) -> None:
    file = folder / f"{NAME}.json"
    file.write_bytes(file.read_bytes().replace(b'"threshold": 0.', b'"threshold": 0.9'))
    assert "deterioration.json is not the released one" in refusal(folder)


def test_a_changed_model_is_refused(folder: Path) -> None:
    file = folder / MODEL.bundle.onnx
    changed = bytearray(file.read_bytes())
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    assert "deterioration.onnx is not the released one" in refusal(folder)


def test_a_missing_model_is_refused(folder: Path) -> None:
    (folder / MODEL.bundle.onnx).unlink()
    assert "cannot be read" in refusal(folder)


def rewritten(folder: Path, **changes: object) -> str:
    """A bundle that was changed by somebody who could also change the program's digest."""
    file = folder / f"{NAME}.json"
    changed = json.dumps(json.loads(file.read_bytes()) | changes).encode()
    file.write_bytes(changed)
    return hashlib.sha256(changed).hexdigest()


def test_golden_vectors_are_computed_at_load(folder: Path) -> None:
    golden = json.loads((folder / f"{NAME}.json").read_bytes())["golden"]
    golden[1]["probability"] += 0.001
    assert "golden vectors" in refusal(folder, rewritten(folder, golden=golden))


def test_a_file_that_is_no_model_is_refused(folder: Path) -> None:
    (folder / MODEL.bundle.onnx).write_bytes(b"no model")
    digest = hashlib.sha256(b"no model").hexdigest()
    assert "does not load" in refusal(folder, rewritten(folder, sha256=digest))


def test_a_bundle_of_another_shape_is_refused(folder: Path) -> None:
    assert "deterioration.json" in refusal(folder, rewritten(folder, threshold=2))


def test_the_bundle_says_what_it_is() -> None:
    found = MODEL.bundle
    assert "intensive care" in found.population
    assert "death" in found.outcome
    assert "not registered" in found.registration
    assert len(found.golden) >= 3
    assert 0 < found.threshold < 0.5
    assert (FOLDER / found.onnx).stat().st_size < 10_000


CARD = Path(__file__).parents[3] / "models" / "deterioration"


def test_the_card_tells_the_figures_of_the_model_that_is_released() -> None:
    report = json.loads((CARD / "report.json").read_bytes())
    card = (CARD / "CARD.md").read_text(encoding="utf-8")
    assert report["bundle_sha256"] == bundle.RELEASED
    assert report["threshold"] == MODEL.bundle.threshold
    assert report["parity_1000_rows"] <= 1e-4
    judged = report["set_c"]
    assert judged["auroc_minus_news2_95"][0] > 0
    for figure in (judged["auroc"], *judged["auroc_95"], judged["news2_auroc"], judged["ece"]):
        assert f"{figure:.3f}" in card
    assert "not registered as a medical device" in card
