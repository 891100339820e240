from service.core.errors import Conflict


class TooManyWebhooks(Conflict):
    """The project has as many webhooks as it may."""
