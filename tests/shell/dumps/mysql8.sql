-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)
--
-- Host: localhost    Database: shop
-- ------------------------------------------------------
-- Server version	8.0.36

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!50503 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*!40111 SET @OLD_SQL_NOTES=@@SQL_NOTES, SQL_NOTES=0 */;
SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;
SET @@SESSION.SQL_LOG_BIN= 0;

--
-- GTID state at the beginning of the backup 
--

SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5';

--
-- Current Database: `shop`
--

CREATE DATABASE /*!32312 IF NOT EXISTS*/ `shop` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */ /*!80016 DEFAULT ENCRYPTION='N' */;

USE `shop`;

--
-- Table structure for table `customer`
--

DROP TABLE IF EXISTS `customer`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE `customer` (
  `id` int unsigned NOT NULL AUTO_INCREMENT,
  `name` varchar(64) COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  `email` varchar(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL COMMENT 'may be; ''none''',
  `balance` decimal(12,2) NOT NULL DEFAULT '0.00',
  `level` enum('bronze','silver','gold') COLLATE utf8mb4_bin NOT NULL DEFAULT 'bronze',
  `flags` set('a','b','c') COLLATE utf8mb4_bin DEFAULT NULL,
  `born` date DEFAULT NULL,
  `created` timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
  `updated` timestamp(3) NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(3),
  PRIMARY KEY (`id`),
  UNIQUE KEY `email` (`email`),
  KEY `name_level` (`name`(20),`level`) USING BTREE
) ENGINE=InnoDB AUTO_INCREMENT=8 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin ROW_FORMAT=DYNAMIC COMMENT='people; who buy';
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `customer`
--

LOCK TABLES `customer` WRITE;
/*!40000 ALTER TABLE `customer` DISABLE KEYS */;
INSERT INTO `customer` VALUES (0,'Zero',NULL,0.00,'bronze','',NULL,'2024-01-01 00:00:00',NULL),(1,'O\'Brien; \"Bob\"','bob@example.com',10.50,'gold','a,c','1980-02-29','2024-03-31 01:30:00','2024-03-31 01:30:00.123'),(7,'Tab\there\nnew line \\ /*!40000 no comment */ -- none','x\'y@example.com',-99999.99,'silver',NULL,'1999-12-31','2038-01-19 03:14:07',NULL);
/*!40000 ALTER TABLE `customer` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `every_type`
--

DROP TABLE IF EXISTS `every_type`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE `every_type` (
  `id` bigint NOT NULL,
  `t` tinyint DEFAULT NULL,
  `b` tinyint(1) DEFAULT '1',
  `s` smallint unsigned zerofill DEFAULT NULL,
  `m` mediumint DEFAULT NULL,
  `u` bigint unsigned DEFAULT '18446744073709551615',
  `f` float DEFAULT NULL,
  `d` double DEFAULT NULL,
  `n` decimal(30,10) DEFAULT NULL,
  `bits` bit(10) DEFAULT b'1010',
  `c` char(5) COLLATE utf8mb4_bin DEFAULT NULL,
  `v` varchar(200) COLLATE utf8mb4_bin DEFAULT NULL,
  `tt` tinytext COLLATE utf8mb4_bin,
  `tx` longtext COLLATE utf8mb4_bin,
  `bin` binary(4) DEFAULT NULL,
  `vb` varbinary(16) DEFAULT NULL,
  `bl` blob,
  `dt` datetime(6) DEFAULT NULL,
  `ti` time DEFAULT NULL,
  `y` year DEFAULT NULL,
  `j` json DEFAULT NULL,
  `g` int GENERATED ALWAYS AS ((`t` + 1)) VIRTUAL,
  `gs` varchar(10) COLLATE utf8mb4_bin GENERATED ALWAYS AS (concat(`c`,_utf8mb4'!')) STORED,
  `hidden` int DEFAULT NULL /*!80023 INVISIBLE */,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `every_type`
--

LOCK TABLES `every_type` WRITE;
/*!40000 ALTER TABLE `every_type` DISABLE KEYS */;
INSERT INTO `every_type` (`id`, `t`, `b`, `s`, `m`, `u`, `f`, `d`, `n`, `bits`, `c`, `v`, `tt`, `tx`, `bin`, `vb`, `bl`, `dt`, `ti`, `y`, `j`, `hidden`) VALUES (-9223372036854775808,-128,0,00042,-8388608,18446744073709551615,1.5,-1.7976931348623157e308,12345678901234567890.0123456789,b'1111111111','abc','Grüße 😀','','a\\b\0c\Z',_binary 'ab\0\0',_binary '\0\'\"\\\n\r\Z',0xDEADBEEF,'1000-01-01 00:00:00.000001','-838:59:59',1901,'{\"a\": [1, 2.5, null], \"b\": \"it\'s\"}',NULL),(1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,3);
/*!40000 ALTER TABLE `every_type` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `orders`
--

DROP TABLE IF EXISTS `orders`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE `orders` (
  `id` int NOT NULL,
  `customer_id` int unsigned NOT NULL,
  `placed` date NOT NULL,
  `total` decimal(10,2) DEFAULT NULL,
  PRIMARY KEY (`id`,`placed`),
  KEY `customer_id` (`customer_id`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
/*!50100 PARTITION BY RANGE (year(`placed`))
(PARTITION p2022 VALUES LESS THAN (2023) ENGINE = InnoDB,
 PARTITION p2023 VALUES LESS THAN (2024) ENGINE = InnoDB,
 PARTITION later VALUES LESS THAN MAXVALUE ENGINE = InnoDB) */;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `orders`
--

LOCK TABLES `orders` WRITE;
/*!40000 ALTER TABLE `orders` DISABLE KEYS */;
INSERT INTO `orders` VALUES (1,1,'2022-06-01',5.00),(2,1,'2023-06-01',NULL),(3,7,'2024-06-01',7.25);
/*!40000 ALTER TABLE `orders` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Table structure for table `tags`
--

DROP TABLE IF EXISTS `tags`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!50503 SET character_set_client = utf8mb4 */;
CREATE TABLE `tags` (
  `k` varchar(20) COLLATE utf8mb4_bin NOT NULL,
  `v` int DEFAULT NULL,
  PRIMARY KEY (`k`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
/*!50100 PARTITION BY KEY (k)
PARTITIONS 3 */;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `tags`
--

LOCK TABLES `tags` WRITE;
/*!40000 ALTER TABLE `tags` DISABLE KEYS */;
INSERT INTO `tags` VALUES ('a',1),('b',2),('c',NULL);
/*!40000 ALTER TABLE `tags` ENABLE KEYS */;
UNLOCK TABLES;

--
-- Dumping events for database 'shop'
--

--
-- Dumping routines for database 'shop'
--
SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*!40111 SET SQL_NOTES=@OLD_SQL_NOTES */;

-- Dump completed on 2024-04-01 12:00:00
