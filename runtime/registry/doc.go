// Package registry asks a registry which tags a repository has, and says which of
// them follows the one in use. It speaks the distribution specification
// (https://github.com/opencontainers/distribution-spec, "Listing Tags") and the
// token authentication of https://distribution.github.io/distribution/spec/auth/token/.
//
// Invariants:
//   - a login goes to the registry that it is for, and to the token server that
//     this registry names, which must be reached by TLS unless the registry itself
//     need not be; it is in no error;
//   - what is read of a registry is bounded in time, bytes and pages;
//   - which tag follows is decided by a pure function, [Newer].
package registry
