/* A ring buffer for one writer and one reader, which never lock. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define CAPACITY 1024 /* a power of two, so that the remainder is a mask */

struct ring {
    int items[CAPACITY];
    atomic_size_t head; /* where the writer puts the next item */
    atomic_size_t tail; /* where the reader takes the next item */
};

/* Returns false when the buffer is full; the item is then not stored. */
bool ring_put(struct ring *ring, int item)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    if (head - tail == CAPACITY)
        return false;
    ring->items[head & (CAPACITY - 1)] = item;
    /* The item must be visible before the new head is. */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return true;
}

/* Returns false when there is nothing to take. */
bool ring_take(struct ring *ring, int *item)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (head == tail)
        return false;
    *item = ring->items[tail & (CAPACITY - 1)];
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}
