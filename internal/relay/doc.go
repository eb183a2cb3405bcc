// Package relay is the program of a service's relay: a container whose address
// stands for the service in its networks, and which carries each connection (TCP)
// and session (UDP) to one of the replicas that are ready.
//
// The relay listens from its first moment, and lets clients wait until it is told
// of a replica. It is told by [Order]s on its standard input, each a line of JSON
// with the whole truth, and answers each with a [Report] on its standard output.
// Nobody need be there to read or write: it goes on by its last order. Whoever
// comes next ends a line that was cut off by an empty one, and orders anew.
package relay
