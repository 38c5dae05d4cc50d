"""The training engine of a site: its patients, its model and its steps."""

from remind.former_names import moved

__getattr__ = moved(
    __name__,
    {
        "remind_client.engine.site_engine": "SiteEngine",
        "remind_client.engine.patients": "Integers PARTS",
        "remind_client.engine.model_state": "Buffer",
    },
)
