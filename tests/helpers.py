"""What several test modules share."""

from collections.abc import Sequence

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from remind.federation import messages
from remind.federation.flower import read_as, to_record
from remind_client.site import Site
from remind_server.local_grid import LocalGrid


class SiteGrid(LocalGrid):
    """An in-process grid over `Site` objects made by a test, in place of virtual hospitals."""

    def __init__(self, sites: Sequence[Site]) -> None:
        super().__init__(site_app(sites), len(sites), {}, run_id=1)


def site_app(sites: Sequence[Site]) -> ClientApp:
    """A client that hands each message to the site of its partition; exceptions are the test's to see."""
    app = ClientApp()

    def site(context: Context) -> Site:
        return sites[int(context.node_config["partition-id"])]

    @app.query()
    def enrol(message: Message, context: Context) -> Message:
        return Message(to_record(site(context).enrol()), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(to_record(*site(context).train(*read_as(message.content, messages.Task))), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(to_record(site(context).examine(*read_as(message.content, messages.Examine))), reply_to=message)

    return app
