//! The embedded secret store: age files under an age identity. They open with
//! the standard `age` tool.
