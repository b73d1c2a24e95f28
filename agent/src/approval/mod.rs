//! Stage 4: who must say yes, and how they are asked.
