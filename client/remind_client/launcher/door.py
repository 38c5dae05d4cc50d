"""The door of the hospital validates every request before the app sees it, and every answer before it leaves.

It wraps any ClientApp, regardless of its author. A request that the policy does not allow never reaches the app. A
reply that the policy cannot read, because it is not one of our message types, does not leave; neither does an answer
that cannot be logged.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from remind.config import Config
from remind.errors import UserError
from remind.federation import message_types, messages, secure_messages
from remind.federation.blocks import RULE
from remind.federation.bounds import ORDINARY
from remind.federation.flower import from_record, to_record
from remind.paths import run_name
from remind.quoting import LONGEST, quoted
from remind.secagg.codec import nbytes_of
from remind_client.audit.events import Answered, Asked, SentTensor
from remind_client.audit.events import Refused as RefusedEvent
from remind_client.policy.bundle import Bundle, BundleError, look
from remind_client.policy.gate import Asking, RefusedError, require_allowed, require_blocks, require_bundle
from remind_client.policy.rules import fingerprint
from remind_client.policy.suppress import (
    counts_of,
    released_groups,
    suppress_enrolment,
    suppress_examination,
    suppress_report,
)
from remind_client.question import question_of
from remind_client.refusal import words_for, words_within
from remind_client.site_config import SiteConfig

log = logging.getLogger(__name__)
Buffer = NDArray[np.uint8]
_REQUESTS: dict[str, tuple[type[message_types.Message], ...]] = {
    "query": (messages.Enrol, secure_messages.Prepare, secure_messages.Deal, secure_messages.Unmask),
    "train": (messages.Task,),
    "evaluate": (messages.Examine,),
}


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Door:
    """The door of one site.

    Attributes
    ----------
    site
        Its settings.
    now
        The clock, aware.
    """

    site: SiteConfig
    now: Callable[[], datetime] = _now

    def answer(
        self, content: bytes, message: Message, context: Context, load: Callable[[Bundle], ClientApp]
    ) -> Message:
        """Return the part of the app's answer that may leave, or a refusal with its reason.

        Parameters
        ----------
        content
            The bundle's bytes.
        message, context
            As Flower gives them to an app. The context's run config is changed to the site's own device and threads.
        load
            Gets the app; called only when everything is allowed.
        """
        visit = _Visit(context.run_id, message.metadata.message_type, None)
        try:
            reply, buffer = self._answer(content, message, context, load, visit)
            self._log_answer(visit, reply)
        except RefusedError as refusal:
            reply, buffer = self._refuse(visit, str(refusal), refusal.leaves)
        except Exception as error:  # at the edge: no exception's text may leave
            if within := words_within(error):
                log.error("refused: %s", within)
            else:
                log.exception("refused")
            reply, buffer = self._refuse(visit, words_for(error))
        return Message(to_record(reply, buffer), reply_to=message)

    def _answer(
        self,
        content: bytes,
        message: Message,
        context: Context,
        load: Callable[[Bundle], ClientApp],
        visit: "_Visit",
    ) -> tuple[message_types.Message, Buffer | None]:
        policy = self.site.policy
        try:
            bundle = look(content)
        except BundleError as error:
            raise RefusedError(str(error)) from None
        config, problem = _config(context)
        request, buffer = _read_request(message)
        visit.round = getattr(request, "round", None)
        visit.of = config.run.id if config else ""
        self.site.audit_log.append(
            Asked(
                run=str(visit.run),
                of=visit.of,
                request=visit.request,
                round=visit.round,
                app=bundle.app,
                bundle=bundle.sha256,
                configuration=fingerprint(config) if config else "",
            )
        )
        require_bundle(policy, bundle)
        if config is None:
            raise RefusedError(f"the run config is not valid: {problem}")
        self.site.configurations.keep(config)
        if request is None:
            raise RefusedError("the message has an unknown type")
        run = run_name(config, context.run_id)
        question = question_of(request, buffer) if isinstance(request, messages.Task) else ""
        require_allowed(policy, Asking(run, bundle, config, request, question), self.now(), self.site.ledger)
        context.run_config = {**context.run_config, **self._own_settings()}
        reply = load(bundle)(message=message, context=context)
        return self._release(run, fingerprint(config), request, reply)

    def _own_settings(self) -> dict[str, str | int]:
        """Return the run-config settings that the site decides, whatever the run asks for."""
        resources = self.site.resources
        return {"device": self.site.device, "threads": resources.threads, "workers": resources.workers}

    def _release(
        self, run: str, configuration: str, request: message_types.Message, reply: Message
    ) -> tuple[message_types.Message, Buffer | None]:
        """Return the part of the answer that may leave."""
        if reply.has_error():
            log.error("the app answered with an error: %s", quoted(reply.error.reason, LONGEST))
            raise RefusedError("internal error (ClientApp); the site's own log says more")
        answer, buffer = from_record(reply.content)
        minimum = self.site.policy.minimum_patients
        match request, answer:
            case _, messages.Refusal():
                raise RefusedError(answer.reason, answer.leaves)
            case messages.Enrol(), messages.Enrolment():
                _require_no_tensors(buffer)
                released = released_groups(answer, minimum)
                suppressed = suppress_enrolment(answer, minimum, self.site.policy.share_name)
                if not suppressed.counts:
                    raise RefusedError(f"no group has the {minimum} training patients that the site's policy requires")
                self.site.ledger.release(run, released, configuration)
                return suppressed, None
            case (
                (secure_messages.Prepare(), secure_messages.Keys())
                | (secure_messages.Deal(), secure_messages.Dealt())
                | (secure_messages.Unmask(), secure_messages.Unmasked())
            ):
                _require_no_tensors(buffer)
                return answer, None
            case ((messages.Task() | messages.Examine()), secure_messages.MaskedAnswer()) if request.secure is not None:
                require_blocks(self.site.policy, request.index)
                expected = sum(map(nbytes_of, answer.beside.lengths.values()))
                if answer.beside.lengths.keys() != request.secure.observers.keys() or buffer.size != expected:
                    raise RefusedError("internal error (the answer contains other blocks than asked); nothing was sent")
                tell = self.site.policy.privacy.tell
                return answer if tell else answer.model_copy(update={"privacy": None}), buffer
            case ((messages.Task() | messages.Examine()), _) if request.secure is not None:
                raise RefusedError("internal error (the answer is not masked); nothing was sent")
            case messages.Task(), messages.Report():
                require_blocks(self.site.policy, answer.index)
                asked = tuple(entry for entry in request.index if not entry.name.startswith(RULE))
                if answer.index != asked or buffer.size != sum(entry.nbytes for entry in answer.index):
                    raise RefusedError(
                        "internal error (the answer contains other tensors than the task); nothing was sent"
                    )
                tell = self.site.policy.privacy.tell
                return suppress_report(answer, self._released(run), minimum, tell), buffer
            case messages.Examine(), messages.Examination():
                _require_no_tensors(buffer)
                return suppress_examination(answer, self._released(run), minimum), None
        raise RefusedError(f"internal error (the app answered with a {type(answer).__name__}); nothing was sent")

    def _released(self, run: str) -> frozenset[int]:
        return self.site.ledger.released(run) or frozenset()

    def _log_answer(self, visit: "_Visit", reply: message_types.Message) -> None:
        index = reply.index if isinstance(reply, messages.Report) else ()
        sent = [SentTensor(name=entry.name, bytes=entry.nbytes) for entry in index]
        if isinstance(reply, secure_messages.MaskedAnswer):
            sent = [SentTensor(name=f"{b} (masked)", bytes=nbytes_of(n)) for b, n in reply.beside.lengths.items()]
        self.site.audit_log.append(
            Answered(
                run=str(visit.run),
                of=visit.of,
                request=visit.request,
                round=visit.round,
                answer=type(reply).__name__,
                tensors=tuple(sent),
                groups=counts_of(reply),
            )
        )

    def _refuse(self, visit: "_Visit", reason: str, leaves: bool = False) -> tuple[messages.Refusal, None]:
        reason = quoted(reason, LONGEST - 50)  # it may quote the coordinator
        try:
            self.site.audit_log.append(
                RefusedEvent(run=str(visit.run), of=visit.of, request=visit.request, round=visit.round, reason=reason)
            )
        except (OSError, UserError):  # the refusal must leave anyway: it reveals nothing about the site's patients
            log.exception("the refusal could not be written to the audit log")
        return messages.Refusal(reason=reason, leaves=leaves), None


@dataclass
class _Visit:
    """What is known about a request so far, for the audit log."""

    run: int
    request: str
    round: int | None
    of: str = ""


def _config(context: Context) -> tuple[Config | None, str]:
    try:
        return Config.from_flat(context.run_config), ""
    except UserError as error:  # it names the coordinator's own keys and values
        return None, " ".join(str(error).split())


def _read_request(message: Message) -> tuple[message_types.Message | None, Buffer]:
    """Parse the request in a message; None if it is not one, or if it arrived under another message type."""
    try:
        request, buffer = from_record(message.content, ORDINARY)
    except ValueError:
        return None, np.empty(0, dtype=np.uint8)
    expected = _REQUESTS.get(message.metadata.message_type)
    return (request if expected is not None and isinstance(request, expected) else None), buffer


def _require_no_tensors(buffer: Buffer) -> None:
    if buffer.size:
        raise RefusedError("internal error (the answer contains unrequested tensors); nothing was sent")
