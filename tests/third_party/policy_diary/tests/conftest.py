pytest_plugins = ["ringfence.testing"]
