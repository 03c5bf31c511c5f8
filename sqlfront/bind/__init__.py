"""Binding: sqlglot trees and the catalog to typed plans; what is not supported is refused here."""
