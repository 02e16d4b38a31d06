//! Request and response types that the server and its clients share.
