//! The three processes, their hardening, and the system calls that no library wraps.
#![allow(unsafe_code)]
