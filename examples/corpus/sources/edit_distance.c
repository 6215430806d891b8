/* Levenshtein distance: the fewest insertions, deletions and substitutions that turn one word into another. */
#include <stdlib.h>
#include <string.h>

static size_t least(size_t a, size_t b, size_t c)
{
    size_t smaller = a < b ? a : b;
    return smaller < c ? smaller : c;
}

/* Returns (size_t)-1 when there is no memory for one row of the table. */
size_t edit_distance(const char *from, const char *to)
{
    size_t columns = strlen(to) + 1;
    size_t *row = malloc(columns * sizeof *row);
    if (row == NULL)
        return (size_t)-1;
    for (size_t column = 0; column < columns; column++)
        row[column] = column;
    for (size_t line = 1; from[line - 1] != '\0'; line++) {
        size_t diagonal = row[0];
        row[0] = line;
        for (size_t column = 1; column < columns; column++) {
            size_t above = row[column];
            size_t cost = from[line - 1] != to[column - 1];
            row[column] = least(above + 1, row[column - 1] + 1, diagonal + cost);
            diagonal = above;
        }
    }
    size_t distance = row[columns - 1];
    free(row);
    return distance;
}
