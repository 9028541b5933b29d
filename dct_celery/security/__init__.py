"""Guards over what the project configured, signatures, and what no output may show. Pure but for
where a file says otherwise.
"""
