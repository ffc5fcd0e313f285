"""The pages of secrets: names, where each is used, and who has set it when. No page has a value, not even in a form."""

from ringfence_secrets.pages.secrets import SecretsPages

__all__ = ["SecretsPages"]
