// Package orders is what the shop's application and its worker share: orders in
// PostgreSQL, and in Redis the queue of those to be shipped and a cache of the
// list.
//
// An order is stored before it is queued, and shipped at most once: the worker
// moves an entry to a list of its own while it works, and the update that ships
// asks for the state it expects. Requeue queues again what was stored but is in
// no list, so a crash between the two steps loses nothing.
package orders
