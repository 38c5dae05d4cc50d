"""The Flower ClientApp.

Turns each Flower message into a call of the site, and never lets an exception's text leave the site.
"""

import logging
from collections.abc import Callable

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from remind.config import Config
from remind.federation import message_types, messages, secure_messages
from remind.federation.bounds import ORDINARY
from remind.federation.flower import from_record, read_as, to_record
from remind.quoting import LONGEST, quoted
from remind_client.ledger.budget import BudgetError
from remind_client.load import Identity, load_site, prepare_process
from remind_client.refusal import words_for, words_within
from remind_client.rounds.site import Site

log = logging.getLogger(__name__)
_sites: dict[tuple[int, Identity, Config], Site] = {}

Answer = tuple[message_types.Message, NDArray[np.uint8] | None]


def client_app(site_of: Callable[[Context], Site]) -> ClientApp:
    """Build the ClientApp; the argument finds the site that a message is for."""
    app = ClientApp()

    @app.query()
    def enrol(message: Message, context: Context) -> Message:
        """Answer an enrolment, who this site is and which data it has; and what secure aggregation asks besides."""

        def answer() -> Answer:
            request, _ = from_record(message.content, ORDINARY)
            match request:
                case secure_messages.Prepare():
                    return site_of(context).secure.prepare(request.slots), None
                case secure_messages.Deal():
                    return site_of(context).secure.deal(request.book), None
                case secure_messages.Unmask():
                    return site_of(context).secure.unmask(request.ask), None
            read_as(message.content, messages.Enrol, ORDINARY)
            return site_of(context).enrol(), None

        return _reply(message, context, answer)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Do one round: evaluate the received model, train, answer."""

        def answer() -> Answer:
            task, buffer = read_as(message.content, messages.Task, ORDINARY)
            site = site_of(context)
            return site.train(task, buffer) if task.secure is None else site.train_masked(task, buffer)

        return _reply(message, context, answer)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Evaluate the final model on test patients."""

        def answer() -> Answer:
            task, buffer = read_as(message.content, messages.Examine, ORDINARY)
            site = site_of(context)
            return (site.examine(task, buffer), None) if task.secure is None else site.examine_masked(task, buffer)

        return _reply(message, context, answer)

    return app


def _reply(message: Message, context: Context, answer: Callable[[], Answer]) -> Message:
    """Return the answer, or a refusal whose text may leave the site.

    Flower sends an exception's text, with paths and values, to the coordinator (flower §4). Therefore no exception
    may reach Flower. The text of a user's mistake is passed on only in simulations, where the user is the researcher.
    """
    identity = Identity.of(context.node_config)
    try:
        content, buffer = answer()
    except Exception as error:  # at the edge: no exception's text may leave
        within, words = words_within(error), words_for(error)
        if not within:
            log.exception("refused")
        elif not identity.virtual:
            log.error("refused: %s", within)
        if identity.virtual:
            said = f"internal error ({type(error).__name__}): {error}"
            words = quoted(within, LONGEST - 50, keep="\n") or f"{quoted(said, LONGEST - 100)}; its own log says more"
        content, buffer = messages.Refusal(reason=words, leaves=isinstance(error, BudgetError)), None
    return Message(to_record(content, buffer), reply_to=message)


def _site(context: Context) -> Site:
    """Return the site of this message.

    It is cached for the next message, because one process of a simulation serves several sites.
    """
    identity = Identity.of(context.node_config)
    config = Config.from_flat(context.run_config).begun
    prepare_process(config.threads)
    key = (context.run_id, identity, config)
    if key not in _sites:
        for old in [k for k in _sites if k[0] != context.run_id]:
            del _sites[old]
        _sites[key] = load_site(identity, config, context.run_id)
    return _sites[key]


app = client_app(_site)
