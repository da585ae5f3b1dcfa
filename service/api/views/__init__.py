"""What HTTP shows: one response model per thing of the contract, made from the domain's values.

The client reads the same, so they load nothing that it may lack.
"""
