"""What a site keeps on its disk in one run."""

from remind.former_names import moved

__getattr__ = moved(
    __name__,
    {"remind_client.store.site_store": "SiteStore digest", "remind_client.store.files": "damaged"},
)
