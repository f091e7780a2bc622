"""What a request means, to the local server and to the check of an export alike."""
