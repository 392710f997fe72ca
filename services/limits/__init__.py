"""Who may have how much: quotas, the ledgers that count them, and admission by them."""
