"""What tests with real ae_transfer_service peers need: processes, addresses, recordings."""
