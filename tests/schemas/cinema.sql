-- A cinema library on MariaDB: unsigned keys, YEAR, SET, ENUM, geometry, full text, ON UPDATE, collations by column.

CREATE TABLE actor (
    actor_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT,
    first_name VARCHAR(45) NOT NULL COMMENT 'as on posters',
    last_name VARCHAR(45) NOT NULL,
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (actor_id),
    KEY actor_last_name (last_name(10))
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COMMENT='people on screen';
CREATE TABLE genre (
    genre_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(25) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL,
    changed DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB;
CREATE TABLE speech (
    speech_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name CHAR(20) NOT NULL,
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
) ENGINE=InnoDB;
CREATE TABLE film (
    film_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT,
    title VARCHAR(128) NOT NULL,
    description TEXT DEFAULT NULL,
    released YEAR DEFAULT NULL,
    speech_id TINYINT UNSIGNED NOT NULL,
    original_speech_id TINYINT UNSIGNED DEFAULT NULL,
    days TINYINT UNSIGNED NOT NULL DEFAULT 3,
    rate DECIMAL(4,2) NOT NULL DEFAULT 4.99,
    minutes SMALLINT UNSIGNED DEFAULT NULL,
    audience ENUM('G','PG','PG-13') DEFAULT 'G',
    extras SET('trailers','cuts','notes') DEFAULT NULL,
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (film_id),
    KEY film_title (title),
    KEY film_speech (speech_id),
    CONSTRAINT film_speech FOREIGN KEY (speech_id) REFERENCES speech (speech_id) ON DELETE RESTRICT ON UPDATE CASCADE,
    CONSTRAINT film_original FOREIGN KEY (original_speech_id) REFERENCES speech (speech_id) ON UPDATE CASCADE,
    CONSTRAINT film_days CHECK (days BETWEEN 1 AND 30)
) ENGINE=InnoDB;
CREATE TABLE film_actor (
    actor_id SMALLINT UNSIGNED NOT NULL,
    film_id SMALLINT UNSIGNED NOT NULL,
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (actor_id, film_id),
    CONSTRAINT film_actor_actor FOREIGN KEY (actor_id) REFERENCES actor (actor_id) ON UPDATE CASCADE,
    CONSTRAINT film_actor_film FOREIGN KEY (film_id) REFERENCES film (film_id) ON UPDATE CASCADE
) ENGINE=InnoDB;
CREATE TABLE film_genre (
    film_id SMALLINT UNSIGNED NOT NULL,
    genre_id TINYINT UNSIGNED NOT NULL,
    changed TIMESTAMP NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp(),
    PRIMARY KEY (film_id, genre_id),
    CONSTRAINT film_genre_film FOREIGN KEY (film_id) REFERENCES film (film_id),
    CONSTRAINT film_genre_genre FOREIGN KEY (genre_id) REFERENCES genre (genre_id)
) ENGINE=InnoDB;
CREATE TABLE film_words (
    film_id SMALLINT NOT NULL PRIMARY KEY,
    title VARCHAR(255) NOT NULL,
    description TEXT,
    FULLTEXT KEY title_description (title, description)
) ENGINE=InnoDB;
CREATE TABLE land (
    land_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(50) NOT NULL,
    code CHAR(2) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'XX',
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
) ENGINE=InnoDB;
CREATE TABLE city (
    city_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(50) NOT NULL,
    land_id SMALLINT UNSIGNED NOT NULL,
    label VARCHAR(60) GENERATED ALWAYS AS (concat(name, '!')) VIRTUAL,
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    CONSTRAINT city_land FOREIGN KEY (land_id) REFERENCES land (land_id)
) ENGINE=InnoDB;
CREATE TABLE address (
    address_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    line VARCHAR(50) NOT NULL,
    line2 VARCHAR(50) DEFAULT NULL,
    city_id SMALLINT UNSIGNED NOT NULL,
    location GEOMETRY NOT NULL,
    SPATIAL KEY address_location (location),
    CONSTRAINT address_city FOREIGN KEY (city_id) REFERENCES city (city_id)
) ENGINE=InnoDB;
CREATE TABLE shop (
    shop_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    manager_id TINYINT UNSIGNED NOT NULL,
    city_id SMALLINT UNSIGNED NOT NULL,
    place POINT DEFAULT NULL,
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    UNIQUE KEY shop_manager (manager_id),
    CONSTRAINT shop_city FOREIGN KEY (city_id) REFERENCES city (city_id)
) ENGINE=InnoDB;
CREATE TABLE staff (
    staff_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    first_name VARCHAR(45) NOT NULL,
    picture BLOB DEFAULT NULL,
    portrait MEDIUMBLOB DEFAULT NULL,
    email VARCHAR(50) DEFAULT NULL,
    shop_id TINYINT UNSIGNED NOT NULL,
    active BOOLEAN NOT NULL DEFAULT TRUE,
    username VARCHAR(16) NOT NULL,
    secret VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL,
    hired YEAR(4) NOT NULL DEFAULT 2006,
    token CHAR(36) NOT NULL DEFAULT (uuid()),
    settings JSON NOT NULL DEFAULT '{}',
    changed TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    CONSTRAINT staff_shop FOREIGN KEY (shop_id) REFERENCES shop (shop_id)
) ENGINE=InnoDB;
CREATE TABLE customer (
    customer_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    shop_id TINYINT UNSIGNED NOT NULL,
    first_name VARCHAR(45) NOT NULL,
    email VARCHAR(50) DEFAULT NULL,
    active TINYINT(1) NOT NULL DEFAULT 1,
    created DATETIME NOT NULL,
    changed TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    UNIQUE KEY customer_email (email),
    CONSTRAINT customer_shop FOREIGN KEY (shop_id) REFERENCES shop (shop_id)
) ENGINE=InnoDB;
CREATE TABLE inventory (
    inventory_id MEDIUMINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    film_id SMALLINT UNSIGNED NOT NULL,
    shop_id TINYINT UNSIGNED NOT NULL,
    shelf DOUBLE DEFAULT NULL,
    CONSTRAINT inventory_film FOREIGN KEY (film_id) REFERENCES film (film_id),
    CONSTRAINT inventory_shop FOREIGN KEY (shop_id) REFERENCES shop (shop_id)
) ENGINE=InnoDB;
CREATE TABLE rental (
    rental_id INT NOT NULL AUTO_INCREMENT,
    taken DATETIME NOT NULL,
    inventory_id MEDIUMINT UNSIGNED NOT NULL,
    customer_id SMALLINT UNSIGNED NOT NULL,
    returned DATETIME DEFAULT NULL,
    changed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    PRIMARY KEY (rental_id),
    UNIQUE KEY rental_once (taken, inventory_id, customer_id),
    CONSTRAINT rental_inventory FOREIGN KEY (inventory_id) REFERENCES inventory (inventory_id),
    CONSTRAINT rental_customer FOREIGN KEY (customer_id) REFERENCES customer (customer_id)
) ENGINE=InnoDB;
CREATE TABLE payment (
    payment_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    customer_id SMALLINT UNSIGNED NOT NULL,
    rental_id INT DEFAULT NULL,
    amount DECIMAL(5,2) NOT NULL,
    paid DATETIME NOT NULL,
    CONSTRAINT payment_rental FOREIGN KEY (rental_id) REFERENCES rental (rental_id) ON DELETE SET NULL ON UPDATE CASCADE,
    CONSTRAINT payment_customer FOREIGN KEY (customer_id) REFERENCES customer (customer_id)
) ENGINE=InnoDB;
CREATE TRIGGER film_added AFTER INSERT ON film FOR EACH ROW
    INSERT INTO film_words (film_id, title, description) VALUES (new.film_id, new.title, new.description);
CREATE VIEW customer_list AS SELECT customer_id, first_name FROM customer;
