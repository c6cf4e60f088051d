"""Other people's toolkits. Each module is imported only on request, and is the only one that imports its toolkit."""
