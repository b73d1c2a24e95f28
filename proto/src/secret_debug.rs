//! Messages that carry a secret say no more than their name when printed.

use crate::v1::{
    FieldPiece, ImportSecretsRequest, PutSecretRequest, RotateSecretRequest, SecretMessage,
    UnlockRequest,
};
use std::fmt;

macro_rules! opaque {
    ($($message:ident),*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    )*};
}

opaque!(
    FieldPiece,
    SecretMessage,
    PutSecretRequest,
    RotateSecretRequest,
    ImportSecretsRequest,
    UnlockRequest
);
