"""The bytes behind a temporary link: streamed, resumed, checked and put in place."""
