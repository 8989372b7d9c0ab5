"""Sets a new version of the secret db-password with the Azure SDK, as the writer pod, and prints when it was answered."""

import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.keyvault.secrets import SecretClient


class ProjectedToken:
    """The pod's own service-account token is its credential."""

    def get_token(self, *scopes, **kwargs):
        with open("/var/run/secrets/strongroom/token") as file:
            return AccessToken(file.read(), int(time.time()) + 300)


client = SecretClient("https://demo.strongroom-demo.svc", ProjectedToken())
value = f"written-by-the-sdk-{int(time.time())}"
client.set_secret("db-password", value)
print(f"{time.time():.4f} {value}")
try:
    client.get_secret("db-password")
    raise SystemExit("the writer could read, and should not")
except HttpResponseError as error:
    assert error.status_code == 403, error
