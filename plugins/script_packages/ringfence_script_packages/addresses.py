"""Where on a host the policy and the packages are."""

POLICY = "/api/script-packages/sandbox-policy"
PACKAGES = "/api/script-packages/packages"
