//! What real servers get wrong, repaired before the decoders see it.
