//! Tests through the outside of the product.
