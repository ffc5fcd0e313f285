"""The sandbox: policy, capabilities, plan, launch, report."""
