"""Study `privacy`: what a guarantee costs in scores, and with which settings it costs least."""

import json
from collections.abc import Mapping, Sequence

from pydantic import Field
from typing_extensions import override

from remind.config import Scalar
from remind.errors import UserError
from remind.methods import methods_of
from remind.metrics.scores import EVERY
from remind.registry import Options
from remind.training.private.admission import require_given_scales
from remind_studies.cells.cell import PLACES, CellResult
from remind_studies.studies.private import NONE, guaranteed, modes, unprotected
from remind_studies.studies.private_settings import WEIGHTED, changes, named_weights
from remind_studies.studies.variants import config_of, listed
from remind_studies.study import Panel, Request, Settings, Study, registry
from remind_studies.tuning import judge_all

SETTINGS = "settings"
PLAIN = "no guarantee"  # in reports: "none reaches .9" would be read as "no method does"


class PrivacyOptions(Options):
    """Guarantees to try."""

    epsilon: str = Field("8, 3, 1", description="ε of a run; separated by commas; settings are sought for the first")
    r_max: str = Field("1, 4", description="caps of a patient's weight, with uniform λ; separated by commas; or empty")
    parts: str = Field(
        "", description="also train these parts alone, as rule adapt names them: head+groups is a cheap adaptation"
    )
    settings: bool = Field(
        True, description="whether to seek better settings: learning and sampling rate, rounds, r_max, size"
    )


@registry.register(
    "privacy",
    title="scores against ε for each mode of privacy, the price of weights, settings for a wanted ε",
    paper="De et al., Unlocking high-accuracy differentially private image classification, arXiv 2204.13650",
    year=2022,
    options=PrivacyOptions,
)
class Privacy(Study):
    """A panel per ε and per r_max: without a guarantee, and each mode. One panel of settings, all for the first ε.

    A comparison of settings uses scores of validation and test patients, and no ledger counts this cost. Run it on
    synthetic or public patients.
    """

    methods, seeds = "remind", 3
    options: PrivacyOptions
    classes_only = "what runs with a guarantee release is bounded for classes"

    @override
    def plan(self, request: Request) -> tuple[Panel, ...]:
        epsilons = self._positive("epsilon", self.options.epsilon)
        found = [self._panel(request, f"ε = {e:g}", f"a guarantee of ε = {e:g}", e, {}, {}) for e in epsilons]
        found += self._weighted(request, epsilons[0]).values()
        if self.options.settings:
            found.append(self._settings(request, epsilons[0]))
        for panel in found:
            for arm in panel.arms:
                config = config_of(request, arm.but(arm.name, panel.settings))
                methods_of(config)
                if config.privacy.mode != NONE:
                    require_given_scales(request.cohort.schema, config)
        return tuple(found)

    @override
    def advice(self, request: Request, found: Mapping[tuple[str, str], Sequence[CellResult]]) -> str:
        best = self._best(request, found) if self.options.settings else ""
        return " ".join(filter(None, (best and f"{best}.", self._costs(request, found))))

    def _costs(self, request: Request, found: Mapping[tuple[str, str], Sequence[CellResult]]) -> str:
        """Return what each guarantee costs all validation patients: the question of the study."""
        told = []
        for epsilon in self._positive("epsilon", self.options.epsilon):
            panel = self._panel(request, f"ε = {epsilon:g}", "", epsilon, {}, {})
            scores = {a.name: judge_all(found.get((panel.name, a.name), ()), request.metric) for a in panel.arms}
            texts = [f"{name} {score:.3f}" for name, score in scores.items() if score is not None]
            told += [f"ε = {epsilon:g}: {', '.join(texts)}"] if texts else []
        written = EVERY[request.metric].column
        return f"{written} of all validation patients: {'; '.join(told)}." if told else ""

    def _best(self, request: Request, found: Mapping[tuple[str, str], Sequence[CellResult]]) -> str:
        epsilon = self._positive("epsilon", self.options.epsilon)[0]
        settings = self._settings(request, epsilon)
        runs = {arm.name: (settings, arm) for arm in settings.arms}
        for cap, weighted in self._weighted(request, epsilon).items():
            private = [arm for arm in weighted.arms if arm.name in modes(_hospitals(request))]
            runs |= {named_weights(arm.name, cap): (weighted, arm) for arm in private}
        scores = {
            name: judge_all(found.get((panel.name, arm.name), ()), request.metric)
            for name, (panel, arm) in runs.items()
        }
        plain, tried = scores.pop(PLAIN), {name: score for name, score in scores.items() if score is not None}
        if not tried:
            return ""
        better = min if EVERY[request.metric].lower_is_better else max
        best = better(tried, key=lambda name: tried[name])
        panel, arm = runs[best]
        beside = "" if plain is None else f", {plain:.3f} without a guarantee"
        chosen = panel.cell(arm, request.common, request.seeds[0]).settings
        written = " ".join(_pair(key, value) for key, value in chosen.items() if key not in (*PLACES, "seed"))
        return (
            f"For ε = {epsilon:g}, of the settings tried these have the best {request.metric} of all validation "
            f"patients ({best}: {tried[best]:.3f}{beside}): -c '{written}'"
        )

    def _panel(
        self, request: Request, name: str, title: str, epsilon: float, both: Settings, private: Settings
    ) -> Panel:
        """Compare no guarantee with each mode."""
        arms = [request.main.but(PLAIN, {**both, **unprotected()})]
        arms += [
            request.main.but(mode, {**both, **guaranteed(mode, epsilon), **private})
            for mode in modes(_hospitals(request))
        ]
        if self.options.parts:
            alone: Settings = {"method.rule": f"adapt(parts = {json.dumps(self.options.parts)})"}
            arms += [
                request.main.but(f"{PLAIN}, {self.options.parts} alone", {**both, **unprotected(), **alone}),
                request.main.but(
                    f"site, {self.options.parts} alone", {**both, **guaranteed("site", epsilon), **private, **alone}
                ),
            ]
        return Panel(name, title, tuple(arms), clients=request.clients, runner="private", reference=PLAIN)

    def _settings(self, request: Request, epsilon: float) -> Panel:
        """Compare each mode as configured with changes of learning rate, rate, rounds, size and weights."""
        arms = [request.main.but(PLAIN, unprotected())]
        for mode in modes(_hospitals(request)):
            whole = request.main.but(mode, guaranteed(mode, epsilon))
            arms += [
                whole,
                *(whole.but(f"{mode}, {name}", new) for name, new in changes(config_of(request, whole), self._caps())),
            ]
        title = f"settings for ε = {epsilon:g}"
        return Panel(SETTINGS, title, tuple(arms), clients=request.clients, runner="private", reference=PLAIN)

    def _weighted(self, request: Request, epsilon: float) -> dict[float, Panel]:
        """Return the panel of each cap of a patient's weight."""
        return {
            cap: self._panel(
                request,
                f"r_max = {cap:g}",
                f"uniform λ, weights of at most {cap:g}, ε = {epsilon:g}",
                epsilon,
                WEIGHTED,
                {"privacy.r-max": cap},
            )
            for cap in self._caps()
        }

    def _caps(self) -> tuple[float, ...]:
        return self._positive("r-max", self.options.r_max) if self.options.r_max else ()

    def _positive(self, option: str, text: str) -> tuple[float, ...]:
        values = listed(text, float, option)
        if bad := [value for value in values if not 0 < value < float("inf")]:
            raise UserError(f"{option}: {bad[0]:g} is not a number above 0")
        return values


def _hospitals(request: Request) -> int:
    return request.clients or len(set(() if request.cohort.site_N is None else request.cohort.site_N.tolist()))


def _pair(key: str, value: Scalar) -> str:
    if isinstance(value, str):
        return f'{key}="{value}"'
    return f"{key}={str(value).lower() if isinstance(value, bool) else value}"
