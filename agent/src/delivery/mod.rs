//! Stage 7: one file or folder for each protocol that the agent speaks.
